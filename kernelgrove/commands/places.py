"""Where a stored search is judged again: on which device, and for which GPU a cpu projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from ..ports import SearchSpec


def target_for(spec: SearchSpec, device: str, given: str | None) -> str | None:
    """For which GPU a cpu projects: the one *given*, else the search's where it is known, so that figures compare. None
    where *device* is a GPU."""
    if given is not None:
        return given
    from ..engine.gpus import detect, specs

    if device != "cpu" and not (device == "auto" and not detect.detect().gpus):
        return None
    try:
        return specs.find(spec.device.gpu).name
    except UsageError:  # an imported file may name any device
        return None
