"""SearchConfig: what a search is started with. Defaults < ``kernelgrove.toml`` < ``KERNELGROVE_*`` < flags.

Imported by the commands that need it only: pydantic takes a moment to load.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from .errors import UsageError
from .model import BASELINES, Backend, Precision, Provenance
from .strategies import DEFAULT
from .strategies.options import nearest, number_above, whole, wholes, yes_no

FILE = "kernelgrove.toml"
PREFIX = "KERNELGROVE_"

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", re.IGNORECASE)


def seconds(value: Any) -> float:
    """``90``, ``90s``, ``15m``, ``1h30m``, ``2d``, or a number of seconds."""
    if isinstance(value, str):
        parts = _DURATION.fullmatch(value.strip())
        units = zip(parts.groups() if parts else (), (86400, 3600, 60, 1), strict=False)
        value = sum(float(number or 0) * unit for number, unit in units)
    try:
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number) or number <= 0:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError("a time above zero, such as 90, 15m or 1h30m") from None
    return number


def _one_of(kind: Iterable[StrEnum]) -> Any:
    names = [str(k) for k in kind]

    def read(value: Any) -> str:
        if str(value) not in names:
            hint = nearest(str(value), names)
            raise ValueError(f"one of {', '.join(names)}" + (f" (did you mean {hint}?)" if hint else ""))
        return str(value)

    return read


def _baselines(value: Any) -> tuple[str, ...]:
    """Names of BASELINES, eager among them whether it is named or not."""
    names = value.split(",") if isinstance(value, str) else list(value)
    named = [str(name).strip() for name in names]
    if any(name not in BASELINES for name in named):
        raise ValueError(f"one or more of {', '.join(BASELINES)}")
    return tuple(name for name in BASELINES if name == BASELINES[0] or name in named)


def _models(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) and n.strip() for n in names) or not names:
        raise ValueError("one or more provider:model names, such as rules")
    return tuple(n.strip() for n in names)


def _options(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.split()]
        if not all(name and sign for name, sign, _ in pairs):
            raise ValueError('key=value pairs, such as "rounds=3 repairs=0"')
        return {name.strip(): text.strip() for name, _, text in pairs}
    if not isinstance(value, Mapping):
        raise ValueError("a table of key = value")
    return dict(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a name")
    return value.strip()


def _parts(value: Any) -> dict[str, bool]:
    from .engine.prompts import parts

    return parts.read(_options(value))


def _providers(value: Any) -> dict[str, Any]:
    from .engine.proposers import settings

    return settings.check(value)


def _choice(*words: str) -> Any:
    def read(value: Any) -> str:
        if value not in words:
            hint = nearest(str(value), words)
            raise ValueError(f"one of {', '.join(words)}" + (f" (did you mean {hint}?)" if hint else ""))
        return str(value)

    return read


def _temperature(value: Any) -> float:
    try:
        number = float(value)
        if isinstance(value, bool) or not 0 <= number <= 2:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError("a number from 0 to 2") from None
    return number


Text = Annotated[str, BeforeValidator(_text)]
Count = Annotated[int, BeforeValidator(whole(1))]
Whole = Annotated[int, BeforeValidator(whole(0, 2**63 - 1))]
Wholes = Annotated[tuple[int, ...], NoDecode, BeforeValidator(wholes(1))]
Positive = Annotated[float, BeforeValidator(number_above(0))]
Seconds = Annotated[float, BeforeValidator(seconds)]


#: How much a model is to reason, where it can be told; what a provider has no word for is its affair to refuse.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class SearchConfig(BaseSettings):
    """All settings of ``run``, checked. Make one with ``load``: its errors name the setting and its source."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    model: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_models)] = ("rules",)
    strategy: Text = DEFAULT
    rounds: Count | None = None
    width: Wholes | None = None
    depth: Wholes | None = None
    top_k: Count | None = None
    prune: Annotated[bool, BeforeValidator(yes_no)] | None = None
    options: Annotated[dict[str, Any], NoDecode, BeforeValidator(_options)] = {}
    device: Text = "auto"
    target: Text | None = None
    size: Text | None = None
    backend: Annotated[str, BeforeValidator(_one_of(Backend))] = Backend.TRITON.value
    precision: Annotated[str, BeforeValidator(_one_of(Precision))] = Precision.DEFAULT.value
    tolerance: Positive | None = None
    budget_usd: Positive | None = None
    budget_tokens: Count | None = None
    budget_evals: Count | None = None
    budget_time: Seconds | None = None
    patience: Count | None = None
    seed: Whole = 0
    name: Text | None = None
    temperature: Annotated[float, BeforeValidator(_temperature)] | None = None
    max_output_tokens: Count | None = None
    effort: Annotated[str, BeforeValidator(_choice(*EFFORTS))] | None = None
    model_policy: Annotated[str, BeforeValidator(_choice("weights", "bandit"))] = "weights"
    parts: Annotated[dict[str, bool], NoDecode, BeforeValidator(_parts)] = {}
    prompt_tokens: Count | None = None
    providers: Annotated[dict[str, Any], NoDecode, BeforeValidator(_providers)] = {}
    evaluator: Annotated[str, BeforeValidator(_choice("here", "queue"))] = "here"
    timeout: Seconds = 60.0
    parallel: Count = 4
    trials: Count = 5
    samples: Count = 100
    require: Annotated[str, BeforeValidator(_one_of([Provenance.CUSTOM]))] | None = None
    baselines: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_baselines)] = BASELINES[:2]

    #: Flags that are options of the strategy.
    STRATEGY_FLAGS: ClassVar[tuple[str, ...]] = ("rounds", "width", "depth", "top_k", "prune")

    @property
    def strategy_options(self) -> dict[str, Any]:
        """What the strategy is told: ``-o`` pairs and the flags that were given. Raises UsageError for one in both."""
        given = {name: _plain(getattr(self, name)) for name in self.STRATEGY_FLAGS if getattr(self, name) is not None}
        both = sorted(set(given) & {key.replace("-", "_") for key in self.options})
        if both:
            flag = "no-prune" if both[0] == "prune" else both[0].replace("_", "-")
            raise UsageError(f"--{flag} and -o {both[0]}=… are the same option: give one.")
        return {**{key: _plain(value) for key, value in self.options.items()}, **given}

    @property
    def search_options(self) -> dict[str, Any]:
        """``SearchSpec.options``: plain JSON values; what was not given is left out."""
        found = {
            "backend": self.backend,
            "trials": self.trials,
            "samples": self.samples,
            "require": self.require,
            "baselines": list(self.baselines),
            "timeout_s": self.timeout,
            "parallel": self.parallel,
            "temperature": self.temperature,
            "max_output_tokens": self.max_output_tokens,
            "effort": self.effort,
            "model_policy": self.model_policy if self.model_policy != "weights" else None,
            "parts": dict(self.parts) or None,
            "prompt_tokens": self.prompt_tokens,
            "providers": dict(self.providers) or None,
            "evaluator": self.evaluator if self.evaluator != "here" else None,
            "budget_usd": self.budget_usd,
            "budget_tokens": self.budget_tokens,
            "budget_evals": self.budget_evals,
            "budget_time": self.budget_time,
            "patience": self.patience,
        }
        return {key: value for key, value in found.items() if value is not None}

    @classmethod
    def load(
        cls, flags: Mapping[str, Any] | None = None, file: str | os.PathLike[str] | None = None, *, alone: bool = False
    ) -> SearchConfig:
        """The settings: *flags* (None: not given) over the environment over *file* (``kernelgrove.toml`` in the
        working directory where None, if it is there) over the defaults. *alone* reads neither file nor environment.

        Raises UsageError with one sentence naming the setting, where it was given, and what would do.
        """
        given = {name: value for name, value in (flags or {}).items() if value is not None}
        where = Path(FILE if file is None else file)
        written = {} if alone else _read_file(where, required=file is not None)
        _known(given, "flags", cls)
        _known(written, str(where), cls)

        class Sources(cls):  # type: ignore[misc, valid-type]
            """The same settings with the sources of this call."""

            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,
                file_secret_settings: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                from_file = InitSettingsSource(settings_cls, init_kwargs=written)
                return (init_settings,) if alone else (init_settings, env_settings, from_file)

        try:
            values = Sources(**given).model_dump()
        except ValidationError as error:
            raise _explain(error, given, where) from None
        return cls.model_construct(**values)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise UsageError(f"There is no configuration file {path}.", "Check the path given with --config.") from None
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None


def _known(values: Mapping[str, Any], where: str, config: type[SearchConfig]) -> None:
    for name in values:
        if name not in config.model_fields:
            hint = nearest(name, config.model_fields)
            raise UsageError(
                f"{where}: there is no setting {name!r}{f': did you mean {hint!r}?' if hint else '.'}",
                f"There are: {', '.join(config.model_fields)}",
            )


def _explain(error: ValidationError, flags: Mapping[str, Any], file: Path) -> UsageError:
    """The first thing that is wrong: the setting as the user wrote it, its value, what would do."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    wanted = str(first.get("ctx", {}).get("error", first["msg"]))
    if name in flags:
        shown = f"--{name.replace('_', '-')}"
    elif any(key.upper() == PREFIX + name.upper() for key in os.environ):
        shown = PREFIX + name.upper()
    else:
        shown = f"{name} in {file}"
    value = first["input"]
    typed = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    return UsageError(f"{shown} must be {wanted}, not {typed!r}.")
