"""Masks and digests: what nobody can read or change without being noticed. In Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from kernelgrove.engine.evaluator.timing import masking


def interpreted(expression: str) -> Any:
    """What *expression* is, where Triton's kernels are interpreted."""
    program = f"""
import json, torch
from kernelgrove.engine.evaluator.timing import masking

def masked(words, key, every=1):
    words = words.clone()
    quarter = words.numel() // 4
    masking.mask[(-(-quarter // (256 * every)),)](words, torch.tensor([key]), quarter, every, QUARTER=256)
    return words

def digest(words, key):
    count, steps = masking.parts(words.numel())
    found = torch.zeros(count, dtype=torch.int64)
    masking.digest[(count,)](words, torch.tensor([key]), found, words.numel(), steps, BLOCK=masking.BLOCK)
    return found.tolist()

def changed(at):
    other = words.clone()
    other[at] ^= 1
    return other

words = torch.arange(1100, dtype=torch.int32)
many = torch.arange(4 * 32 * 256, dtype=torch.int32)
swapped = words.clone()
swapped[0], swapped[1] = 1, 0
print(json.dumps({expression}))
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_digest_hangs_on_every_word_its_place_and_the_key():
    said, again, other_key, *others, swapped, zeros = interpreted(
        "[digest(words, 5), digest(words, 5), digest(words, -5),"
        " *(digest(changed(at), 5) for at in (0, 1023, 1024)),"
        " digest(swapped, 5), digest(torch.zeros(2048, dtype=torch.int32), 5)]"
    )
    assert len(said) == 2 and again == said and not set(other_key) & set(said)
    for other, block in zip(others, (0, 0, 1), strict=True):
        assert [a != b for a, b in zip(other, said, strict=True)] == [block == which for which in range(2)]
    assert swapped[0] != said[0] and swapped[1:] == said[1:]
    assert zeros[0] != zeros[1], "blocks are told apart"


def test_masked_is_masked_everywhere_and_back():
    plain, masked, other, back = interpreted(
        "[each.tolist() for each in (words, masked(words, -7), masked(words, 7), masked(masked(words, -7), -7))]"
    )
    assert back == plain
    assert not any(a == b for a, b in zip(plain, masked, strict=True))
    assert not any(a == b for a, b in zip(other, masked, strict=True))
    assert len({a ^ b for a, b in zip(plain, masked, strict=True)}) == 1100, "no two words under the same mask"


def test_where_few_blocks_are_masked_only_the_key_tells_which():
    few, back, *others = interpreted(
        "[(masked(many, 7, 4) != many).view(4, 32, 256).any(2).int().tolist(),"
        " bool((masked(masked(many, 7, 4), 7, 4) == many).all()),"
        " *((masked(many, key, 4) != many).view(4, 32, 256).any(2)[0].nonzero().flatten().tolist()"
        " for key in range(20))]"
    )
    assert back is True
    assert all(row == few[0] for row in few) and sum(few[0]) == 8, "one block of four, which is four pieces"
    assert all([block // 4 for block in places] == list(range(8)) for places in others)
    assert len(set(map(tuple, others))) == 20 and {place % 4 for places in others for place in places} == {0, 1, 2, 3}


@pytest.mark.parametrize(("blocks", "every"), [(0, 1), (15, 1), (16, 2), (33, 4), (128, 16), (1 << 20, 16)])
def test_where_there_are_few_blocks_more_of_them_are_masked(blocks: int, every: int):
    assert masking.sparsely(blocks) == every


@pytest.mark.parametrize(("words", "expected"), [(0, (0, 1)), (1, (1, 1)), (1 << 20, (1024, 1)), (3 << 20, (1024, 3))])
def test_there_is_room_for_all_digests(words: int, expected: tuple[int, int]):
    assert masking.parts(words) == expected


def test_the_kernels_are_compiled_for_a_gpu_that_is_not_here():
    for image in masking.images((9, 0)):
        assert image.name in ("mask", "digest") and image.threads == 128 and image.code.startswith(b"\x7fELF")
        assert set(image.to_json()) == {"name", "threads", "shared"}
