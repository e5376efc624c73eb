"""The public surface of an installed neuroparam, whatever installed it; it needs torch alone."""

from __future__ import annotations

import copy
import importlib
import io
import sys
import warnings
from pathlib import Path

import torch
from torch import nn

import neuroparam
from neuroparam import (
    BoundedSigmoid,
    ExpScaledLog,
    Quantity,
    Recorder,
    Softplus,
    check_gradients,
    errors,
    find,
    freeze,
    make_fixed,
    make_trainable,
    neuron_parameters,
    param_groups,
    plain_state_dict,
    set_values,
    summary,
    unfreeze,
    values,
)

MODULES = (
    "adjoint",
    "catalogue",
    "errors",
    "initial",
    "inspect",
    "parametrizations",
    "plot",
    "units",
)


class Leaky(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("beta", torch.tensor(0.9))
        self.tau, self.threshold = 20.0, nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v, seen = torch.zeros_like(x[0]), []
        for step in x:
            v = self.beta * v + step / self.tau
            seen.append(torch.sigmoid(v - self.threshold))
        return torch.stack(seen)


def main() -> None:
    folder = Path(neuroparam.__file__).parent
    print(f"neuroparam {neuroparam.__version__} from {folder}, torch {torch.__version__}")
    if "--installed" in sys.argv:  # where it was installed, so that nothing else is tried
        assert folder.parent.samefile(sys.argv[sys.argv.index("--installed") + 1])
    for name in neuroparam.__all__:
        assert getattr(neuroparam, name).__doc__, name
    for name in MODULES:
        module = importlib.import_module(f"neuroparam.{name}")
        assert all(hasattr(module, public) for public in module.__all__), name
    assert (Path(neuroparam.__file__).parent / "py.typed").exists()

    net = nn.Sequential(nn.Linear(4, 3), Leaky())
    plain = copy.deepcopy(net)
    x = torch.rand(6, 2, 4)
    expected = plain(x)
    maps = {
        "1.beta": BoundedSigmoid(0.0, 1.0),
        "1.tau": ExpScaledLog(),
        "1.threshold": Softplus(lower=0.1),
    }
    assert len(find(net)) == 3
    make_trainable(net, maps)
    torch.testing.assert_close(net(x), expected)
    assert check_gradients(net, x).keys() == values(net).keys()
    optimizer = torch.optim.Adam(param_groups(net, lr=1e-2, neuron_lr={"1.tau": 1.0}))
    recorder = Recorder(net)
    freeze(net, "1.beta")
    for _ in range(5):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
        recorder.record()
    assert values(net)["1.beta"] == recorder.history["1.beta"][0]
    assert values(net)["1.tau"] != 20.0
    set_values(unfreeze(net), "1.beta", 0.8)
    assert "inside" in str(summary(net))
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = make_trainable(copy.deepcopy(plain), maps)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(other(x), net(x))
    with warnings.catch_warnings(record=True):  # it has no place for a number
        assert "1.beta" in plain_state_dict(net)
    fixed = make_fixed(copy.deepcopy(net))
    torch.testing.assert_close(fixed(x), net(x))
    assert type(fixed[1]) is Leaky
    assert len(neuron_parameters(fixed)) == 0
    try:
        make_trainable(plain, {Quantity.TAU_MEM: None})
    except errors.UnknownNameError:
        print("all passed")


if __name__ == "__main__":
    main()
