"""What simulated ideas say. Each concept has three wordings: two ideas may be the same one in other words."""

from __future__ import annotations

#: (category, wordings). A landscape of n concepts takes n of these, shuffled by its seed.
CONCEPTS: tuple[tuple[str, tuple[str, str, str]], ...] = (
    (
        "memory",
        (
            "Stage tiles of the input in shared memory so that neighbouring programs read each element once",
            "Load input tiles into shared memory once and let neighbouring programs reuse them",
            "Read each input element once by staging it in a shared memory tile",
        ),
    ),
    (
        "memory",
        (
            "Widen global loads to 128-bit vectors along the contiguous dimension",
            "Use 128-bit vectorised loads from global memory along the contiguous dimension",
            "Vectorise the global loads: four floats at a time along the contiguous dimension",
        ),
    ),
    (
        "latency",
        (
            "Double-buffer the tiles so that the next loads overlap with the current arithmetic",
            "Overlap loads of the next tile with arithmetic on the current one by double buffering",
            "Prefetch the next tile into a second buffer while the current tile is computed",
        ),
    ),
    (
        "compute",
        (
            "Turn the inner product into matrix instructions on tensor cores",
            "Map the inner product to tensor core matrix instructions",
            "Compute the inner product with tensor cores instead of scalar multiply-adds",
        ),
    ),
    (
        "compute",
        (
            "Precompute the index decomposition once a tile instead of dividing in the inner loop",
            "Hoist the divisions of the index decomposition out of the inner loop into a table",
            "Avoid division and modulo in the inner loop by precomputed indices",
        ),
    ),
    (
        "fusion",
        (
            "Fuse the epilogue into the main kernel so that the intermediate never reaches memory",
            "Apply the epilogue inside the main kernel and keep the intermediate in registers",
            "Keep the intermediate out of global memory by fusing what follows into the main kernel",
        ),
    ),
    (
        "parallelism",
        (
            "Split the reduction over several programs and combine their partial results",
            "Let several programs share one reduction and add their partials at the end",
            "Combine partial results of a reduction that is split over more programs",
        ),
    ),
    (
        "parallelism",
        (
            "Launch a persistent grid of one program a multiprocessor that loops over the work",
            "Use a persistent kernel: as many programs as multiprocessors, each looping over tiles",
            "Loop over tiles from a persistent grid sized to the number of multiprocessors",
        ),
    ),
    (
        "cache",
        (
            "Reorder programs in groups so that consecutive ones share rows in the L2 cache",
            "Swizzle the program order for L2 reuse between consecutive programs",
            "Group the program order so that tiles that share data run close together in L2",
        ),
    ),
    (
        "cache",
        (
            "Keep what is read twice in L2 with an eviction hint and stream the rest past it",
            "Use eviction policies: hold reused lines in L2 and stream single-use lines",
            "Mark streaming loads evict-first so that reused data stays in L2",
        ),
    ),
    (
        "precision",
        (
            "Accumulate in single precision while the operands are kept in half precision",
            "Store the operands in half precision and accumulate in single precision",
            "Halve the traffic with half-precision operands and a single-precision accumulator",
        ),
    ),
    (
        "algorithm",
        (
            "Replace the two passes by one online pass that rescales its running statistics",
            "Use an online algorithm: one pass with running statistics that are rescaled",
            "Compute the statistics in a single online pass instead of two passes",
        ),
    ),
    (
        "algorithm",
        (
            "Rewrite the operation as an implicit matrix product without building the matrix",
            "Treat the operation as an implicit GEMM whose operand is gathered on the fly",
            "Gather the operand on the fly and run the operation as an implicit matrix product",
        ),
    ),
    (
        "layout",
        (
            "Transpose the weights once into the order in which the kernel reads them",
            "Lay the weights out in reading order with one transpose up front",
            "Repack the weights so that the kernel's reads are contiguous",
        ),
    ),
    (
        "layout",
        (
            "Pad shared memory rows so that a warp's accesses fall on different banks",
            "Skew the shared memory layout to avoid bank conflicts within a warp",
            "Remove bank conflicts by padding each row of the shared buffer",
        ),
    ),
    (
        "occupancy",
        (
            "Give each program a smaller block so that more of them fit on a multiprocessor",
            "Raise occupancy with smaller blocks and fewer registers a thread",
            "Shrink the block so that registers allow more resident programs",
        ),
    ),
)

TUNE = (
    "Tune block sizes and warps around this step: {}",
    "Try other tile shapes and stages for what is there: {}",
    "Go on from this step with better parameters: {}",
)
DROP = (
    "Take this step back and keep the rest: {}",
    "Undo what costs more than it brings: {}",
    "Simplify by removing this step: {}",
)
GRAFT = (
    "Bring over from the other kernel: {}",
    "Combine both kernels by taking from the second: {}",
    "Carry this over from the other version: {}",
)
THOUGHT = (
    "{}; worked out: which tile each program owns, what is staged where, and in which order",
    "{}; in detail: bounds, alignment and the synchronisation that it needs",
    "{}; with the register and shared memory budget counted before any code",
)
