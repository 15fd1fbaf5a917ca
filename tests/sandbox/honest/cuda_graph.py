# problem: small_steps
# runs: gpu
# does: Replays a CUDA graph after copying the input into the graph's own buffer; hands out a copy.
# accept: ok
# provenance: mixed
# timed: yes

import torch


def steps(x):
    for _ in range(6):
        x = (x - 0.5 * x.mean(dim=1, keepdim=True)) * 1.1
    return x


class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.graph = None

    def capture(self, x):
        self.x = x.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                steps(self.x)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.y = steps(self.x)

    def forward(self, x):
        if self.graph is None:
            self.capture(x)
        self.x.copy_(x)
        self.graph.replay()
        return self.y.clone()
