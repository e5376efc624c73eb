"""The stand-in of a record reads like the record, moves like a module, and gives it back."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from neuroparam import errors
from tests.support.inside import Record, fields_of, is_record, neuron_at
from tests.support.modules import Data, FromRecord, FrozenData, Nest, Pair


def test_records_are_named_tuples_and_dataclass_instances() -> None:
    assert all(is_record(record) for record in (Pair(), Nest(Pair()), Data(), FrozenData()))
    assert not any(is_record(other) for other in (Pair, Data, (1.0, 2.0), {"tau": 1.0}, nn.ReLU()))


def test_fields_come_in_their_order() -> None:
    assert fields_of(Pair()) == {"tau": 4.0, "gain": 2.0, "method": "super"}
    assert list(fields_of(FrozenData())) == ["tau", "gain", "computed"]


@pytest.mark.parametrize("record", [Pair(), Nest(Pair(3.0)), Data(), FrozenData(5.0)], ids=repr)
def test_the_record_comes_back_in_its_own_type(record: object) -> None:
    rebuilt = Record(record).rebuild()
    assert type(rebuilt) is type(record)
    assert rebuilt == record


def test_it_reads_like_the_record() -> None:
    stand_in = Record(Pair())
    assert (stand_in.tau, stand_in[1], len(stand_in)) == (4.0, 2.0, 3)
    assert tuple(stand_in) == tuple(Pair())
    assert stand_in._asdict() == Pair()._asdict()
    assert isinstance(Record(Nest(Pair())).inner, Record)


def test_a_tensor_that_layers_share_is_copied_and_a_parameter_is_not() -> None:
    tau, gain = torch.tensor(4.0), nn.Parameter(torch.tensor(2.0))
    stand_in = Record(Pair(tau, gain))
    stand_in.tau.add_(1.0)
    assert tau == 4.0
    assert stand_in.gain is gain
    assert list(stand_in.state_dict()) == ["gain"]


def test_the_meta_device_leaves_its_numbers_alone() -> None:
    stand_in = Record(Pair(torch.tensor(4.0))).to("meta")
    assert stand_in.tau.device.type == "cpu"
    assert stand_in.tau == 4.0
    assert stand_in.double().tau.dtype == torch.float64


def test_it_takes_no_field_that_the_record_lacks() -> None:
    stand_in = Record(Pair())
    with pytest.raises(errors.AssignmentError, match=r"'tua'.*only tau, gain, method"):
        stand_in.tua = 3.0
    stand_in.gain = 3.0
    assert stand_in.rebuild() == Pair(gain=3.0)


def test_it_is_pickled_with_its_class() -> None:
    assert pickle.loads(pickle.dumps(Record(Pair(3.0)))).rebuild() == Pair(3.0)


def test_the_neuron_of_a_stand_in_is_whoever_holds_it() -> None:
    cell = FromRecord(None)
    cell.p = Record(Nest(Pair()))
    modules = dict(nn.Sequential(cell).named_modules())
    assert neuron_at(modules, "0.p.inner") is neuron_at(modules, "0.p") is cell
    assert neuron_at(modules, "0") is cell
