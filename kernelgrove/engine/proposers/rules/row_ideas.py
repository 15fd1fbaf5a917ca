"""Ideas for kernels over rows: registers or tiles, several rows or parts of one, one pass or several."""

from __future__ import annotations

from collections.abc import Iterator

from .facts import Facts, RowFacts, row_facts
from .moves import Move, hints, move, near, near_warps
from .plan import MAX_BLOCK, Plan


def row_moves(facts: Facts, base: Plan) -> Iterator[Move]:
    assert facts.rows is not None
    row = row_facts(facts.rows, base)
    style = row.plan.style
    if style == "whole":
        yield from _whole_moves(facts, row, base)
    elif style == "loop":
        yield from _loop_moves(facts, row, base)
    else:
        yield from _split_moves(facts, row, base)
    yield from _any_row_moves(facts, row, base)


def _whole_moves(facts: Facts, row: RowFacts, base: Plan) -> Iterator[Move]:
    n, strided = row.columns, bool(row.segment.inner)
    yield from _split_entry(facts, row, base)
    if not strided and row.width <= 8192 and row.plan.rows == 1 and row.count >= 8:
        several = [base.change(rows=k) for k in (4, 2, 8, 16) if k * row.width <= 32768]
        yield from move(
            f"Let each program take several rows of {n} elements instead of one",
            f"{row.row_kb:.1f} KB is little work to hide the latency of one load behind; several independent rows "
            "give each warp more loads in flight and fewer programs to launch.",
            "tiling",
            several,
        )
        warped = [base.change(rows=k, warps=k) for k in (4, 8, 2) if k * row.width <= 32768]
        yield from move(
            "Give a program as many rows as it has warps, so that a row's reduction can stay inside one warp",
            "A reduction across warps goes through shared memory and a barrier; inside a warp it is five shuffles.",
            "occupancy",
            warped,
        )
    if not strided and row.plan.rows > 1:
        yield from move(
            f"Go on from {row.plan.rows} rows a program to more or fewer",
            "The best number balances loads in flight against registers a thread.",
            "tiling",
            [base.change(rows=k) for k in (row.plan.rows * 2, row.plan.rows // 2) if k >= 1 and k * row.width <= 32768],
        )
    yield from _looped(facts, row, base)


def _looped(facts: Facts, row: RowFacts, base: Plan) -> Iterator[Move]:
    """From registers to tiles."""
    if row.columns < 1024:
        return
    tiles = [t for t in (2048, 1024, 4096) if t < row.width]
    loop = base.change(style="loop", rows=1, warps=0)
    if row.softmax_like:
        yield from move(
            "Walk each row in tiles with an online softmax: every lane keeps a running maximum and a rescaled sum",
            "Registers stay free for more programs an SM, and the row is read twice instead of three times.",
            "algorithm",
            [loop.change(tile=t, one_pass="lane") for t in tiles],
        )
        yield from move(
            "Walk each row in tiles with an online softmax that has one running maximum for all lanes",
            "One exponential an element where a maximum a lane needs two, for a reduction across threads every tile.",
            "algorithm",
            [loop.change(tile=t, one_pass="tile") for t in (4096, 8192, 2048) if t < row.width],
        )
    if row.variance_like:
        yield from move(
            "Walk each row in tiles and find mean and variance together in one pass, by Welford's update in every lane",
            "Welford needs no second pass for the variance and does not cancel where the mean is far from zero.",
            "algorithm",
            [loop.change(tile=t, one_pass="lane") for t in tiles],
        )
        yield from move(
            "Walk each row in tiles and sum deviations and their squares about the first tile's mean in one pass",
            "Shifted sums cost two additions an element where Welford costs a division; the shift keeps digits.",
            "algorithm",
            [loop.change(tile=t, one_pass="tile") for t in tiles],
        )
    yield from move(
        f"Walk each row of {row.columns} in tiles instead of holding it in registers",
        f"At {row.width // (32 * row.warps)} elements a thread registers limit how many programs an SM holds; a second "
        f"pass over {row.row_kb:.0f} KB comes from the {facts.gpu.l2_mb:g} MB of L2, not from memory.",
        "memory",
        [loop.change(tile=t) for t in tiles],
    )
    yield from move(
        "Walk each row in tiles, with deeper software pipelining so that the next tiles load while this one computes",
        "num_stages above the default keeps more loads in flight for each warp.",
        "memory",
        [loop.change(tile=t, stages=s) for t, s in zip(tiles, (4, 3, 5), strict=False)],
    )
    yield from move(
        "Walk each row in tiles whose number is a compile-time constant, so that the loop unrolls",
        "An unrolled loop issues the loads of several tiles before it needs the first.",
        "launch",
        [loop.change(tile=t, constants=True) for t in (4096, 2048, 8192) if t < row.width],
    )
    if row.count >= 2 * facts.gpu.sms:
        yield from move(
            f"Walk rows in tiles from a persistent grid on {facts.gpu.sms} SMs",
            f"{row.count} programs start and end otherwise; with tiles, several resident ones fit an SM.",
            "launch",
            [loop.change(tile=t, persistent=k) for t, k in zip(tiles, (8, 16, 4), strict=False)],
        )
    if row.segment.full_outputs():
        yield from move(
            "Walk each row in tiles, keeping it in L2 until its last pass (evict_last) and letting go of it then",
            "Every pass after the first then hits L2, and finished rows do not push out those still needed.",
            "memory",
            [loop.change(tile=t, hints=True) for t in tiles],
        )
    if not row.segment.scans and row.segment.full_outputs():
        yield from move(
            "Walk each row in tiles and take the last pass backwards, so that it starts on the tiles read last",
            "The end of the row is still in L1 and L2 when the second pass begins.",
            "memory",
            [loop.change(tile=t, backwards=True) for t in tiles],
        )


def _split_entry(facts: Facts, row: RowFacts, base: Plan) -> Iterator[Move]:
    if row.segment.inner or row.segment.scans or not row.segment.reduces or row.count > 1024 or row.columns < 16384:
        return
    counts = [s for s in (64, 32, 128, 16, 256) if row.columns >= s * 1024] or [16]
    yield from move(
        f"Split each row of {row.columns} across several programs and combine their results in a second kernel",
        f"{row.count} rows at a program each leave most of the {facts.gpu.sms} SMs of the "
        f"{facts.gpu.name} idle or unevenly loaded.",
        "algorithm",
        [base.change(style="split", splits=s, tile=1024, rows=1, warps=0) for s in counts],
    )


def _loop_moves(facts: Facts, row: RowFacts, base: Plan) -> Iterator[Move]:
    yield from _split_entry(facts, row, base)
    yield from _merge(row, base, "a tile")
    if row.width <= MAX_BLOCK and not row.segment.inner:
        warps = [8, 16, 4] if row.width >= 4096 else [4, 8, 2]
        yield from move(
            f"Hold the whole row of {row.columns} elements in registers, in a block of {row.width}",
            "Then memory is read once, whatever the reductions need.",
            "memory",
            [base.change(style="whole", one_pass="", backwards=False, warps=w) for w in warps],
        )
    yield from _tiles(row, base)
    if not row.plan.backwards and not row.segment.scans and row.segment.full_outputs():
        yield from move(
            f"Take the last pass backwards over the tiles of {row.plan.tile}, so that it starts on those read last",
            "The end of the row is still in L1 and L2 when that pass begins.",
            "memory",
            [base.change(backwards=True), base.change(backwards=True, tile=near(row.plan.tile * 2))],
        )
    yield from move(
        f"Pipeline the tile loop deeper (num_stages from {base.stages or 3})",
        "More tiles on their way hide more of the memory's latency, at the price of registers.",
        "memory",
        [base.change(stages=s) for s in (4, 5, 2) if s != base.stages],
    )


def _split_moves(facts: Facts, row: RowFacts, base: Plan) -> Iterator[Move]:
    splits = row.plan.splits
    yield from _merge(row, base, "a chunk")
    more = [s for s in (splits * 2, splits * 4) if s <= 1024 and row.columns > s * row.plan.tile]
    yield from move(
        f"Split each row over more programs than {splits}",
        f"{row.count} x {splits} programs are {row.count * splits / facts.gpu.sms:.1f} for each of {facts.gpu.sms} "
        "SMs; more even out the last wave.",
        "occupancy",
        [base.change(splits=s, style="split") for s in more],
    )
    yield from move(
        f"Split each row over fewer programs than {splits}",
        "Longer chunks mean fewer partial results to combine and more work to hide a program's start behind.",
        "occupancy",
        [base.change(splits=s, style="split") for s in (splits // 2, splits // 4) if s >= 4],
    )
    yield from _tiles(row, base.change(style="split"))
    yield from move(
        f"Pipeline the loop over a chunk deeper (num_stages from {base.stages or 3})",
        "More tiles on their way hide more of the memory's latency.",
        "memory",
        [base.change(stages=s, style="split") for s in (4, 5, 2) if s != base.stages],
    )


def _merge(row: RowFacts, base: Plan, what: str) -> Iterator[Move]:
    """One pass for two dependent reductions."""
    style = row.plan.style
    if row.softmax_like and row.plan.one_pass != "lane":
        yield from move(
            "Merge the passes for maximum and sum into an online softmax, each lane with a running maximum of its own",
            "One read of the row fewer; no exchange between threads until the row has ended.",
            "algorithm",
            [base.change(one_pass="lane", style=style), base.change(one_pass="lane", style=style, tile=1024)],
        )
    if row.softmax_like and row.plan.one_pass != "tile":
        yield from move(
            f"Merge the passes for maximum and sum into an online softmax with one running maximum for {what}",
            "One read of the row fewer, and one exponential an element where a maximum a lane needs two.",
            "algorithm",
            [base.change(one_pass="tile", style=style), base.change(one_pass="tile", style=style, tile=4096)],
        )
    if row.variance_like and row.plan.one_pass != "lane":
        yield from move(
            "Find mean and variance in one pass with Welford's update in every lane",
            "One read of the row fewer, and no cancellation where the mean is far from zero.",
            "algorithm",
            [base.change(one_pass="lane", style=style), base.change(one_pass="lane", style=style, tile=1024)],
        )
    if row.variance_like and row.plan.one_pass != "tile":
        yield from move(
            "Find mean and variance in one pass from sums about the first tile's mean",
            "One read of the row fewer at two additions an element, the shift keeping the digits.",
            "algorithm",
            [base.change(one_pass="tile", style=style), base.change(one_pass="tile", style=style, tile=4096)],
        )


def _tiles(row: RowFacts, base: Plan) -> Iterator[Move]:
    tile = row.plan.tile
    limit = 16384 if not row.segment.inner else 256
    yield from move(
        f"Use tiles larger than {tile}",
        "Fewer turns of the loop and more loads in flight in each.",
        "tiling",
        [base.change(tile=t) for t in (tile * 2, tile * 4) if t <= min(limit, row.width)],
    )
    yield from move(
        f"Use tiles smaller than {tile}",
        "Fewer registers a thread, so more programs an SM.",
        "tiling",
        [base.change(tile=t) for t in (tile // 2, tile // 4) if t >= (128 if not row.segment.inner else 8)],
    )


def _any_row_moves(facts: Facts, row: RowFacts, base: Plan) -> Iterator[Move]:
    gpu, style = facts.gpu, row.plan.style
    if style != "split" and not base.persistent and row.count >= 2 * gpu.sms:
        kept = " and keep the weights in registers between rows" if row.weights and style == "whole" else ""
        yield from move(
            f"Launch a persistent grid of a few programs for each of the {gpu.sms} SMs that loop over the rows{kept}",
            f"{row.count} programs start and end otherwise; a resident grid pays that once.",
            "launch",
            [base.change(persistent=k) for k in (4, 2, 8, 16)],
        )
    if (
        style == "whole"
        and row.plan.rows == 1
        and not base.persistent
        and row.width <= 8192
        and row.count >= 4 * gpu.sms
    ):
        yield from move(
            f"Combine a persistent grid on {gpu.sms} SMs with two rows a program",
            "The loop over rows then has two independent rows in flight in each turn.",
            "launch",
            [base.change(persistent=k, rows=r) for k, r in ((4, 2), (2, 4), (8, 2))],
        )
    yield from move(
        f"Use more warps a program than {row.warps}",
        f"{_per_thread(row)} elements a thread now; more threads mean fewer registers each and more loads in flight.",
        "occupancy",
        [base.change(warps=w) for w in (row.warps * 2, row.warps * 4) if w <= 32],
    )
    yield from move(
        f"Use fewer warps a program than {row.warps}",
        "Fewer warps take part in each reduction, and each thread's loads get wider.",
        "occupancy",
        [base.change(warps=w) for w in (row.warps // 2, row.warps // 4) if w >= 1],
    )
    if not base.hints:
        yield from hints(base, f" (rows in {style} style)")
    multiple = row.width if style == "whole" else row.plan.tile
    if not base.even and style != "split" and row.plan.rows == 1 and row.columns % multiple == 0:
        yield from move(
            f"Drop the masks where the block of {multiple} divides the row of {row.columns}",
            "Unmasked loads are plain 128-bit vectors, with no comparison and no select for each element.",
            "memory",
            [base.change(even=True), base.change(even=True, warps=near_warps(row.warps * 2))],
        )
    if not base.constants:
        yield from move(
            f"Make the row length a compile-time constant (rows in {style} style, {row.warps} warps)",
            "The compiler then knows trip counts and strides, unrolls the loop and folds the index arithmetic.",
            "launch",
            [base.change(constants=True), base.change(constants=True, warps=near_warps(row.warps * 2))],
        )
    if row.divides and not base.reciprocal:
        yield from move(
            f"Divide once a row and multiply by the reciprocal (rows in {style} style)",
            "A division takes many instructions, a product one; the result differs by a rounding.",
            "algorithm",
            [base.change(reciprocal=True), base.change(reciprocal=True, warps=near_warps(row.warps * 2))],
        )


def _per_thread(row: RowFacts) -> int:
    block = row.width if row.plan.style == "whole" else row.plan.tile
    return max(1, block * row.plan.rows // (32 * row.warps))
