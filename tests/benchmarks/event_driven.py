"""LIF neurons in continuous time: spikes at exact times, and the exact gradient of their times.

Between two events the membrane and the current have closed forms, so that nothing is discretised:
a spike's time is the root of a function. The gradient is EventProp's (Wunderlich and Pehle 2021)
with the terms of all neuron parameters, and `worst_error` checks it by finite differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

__all__ = ["DURATION", "INPUTS", "NEURONS", "Array", "Loss", "Network", "Spikes"]

Array = np.ndarray
NEURONS, INPUTS, DURATION = 4, 12, 0.06
# Finer than any two spikes that matter: a crossing is looked for between these parts of a gap.
_PARTS = np.linspace(0, 1, 129)[:, None]
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True)
class Spikes:
    """Times in seconds and the neurons that spiked then."""

    times: Array
    neurons: Array


# Value, and its derivative with respect to the time of each spike.
Loss = Callable[[Spikes], tuple[float, Array]]


@dataclass(frozen=True)
class _Event:
    """What ends a stretch of free flow: an input, a spike, or the end of the time."""

    time: float
    length: float
    v: Array
    i: Array
    input: int | None = None
    spike: int | None = None
    before: float = 0.0
    after: float = 0.0


@dataclass(frozen=True)
class Network:
    """Recurrent neurons with their own constants, and the input spikes, by time."""

    values: dict[str, Array]
    inputs: list[tuple[float, int]]

    @classmethod
    def random(cls, seed: int, strength: float = 1.0) -> Network:
        """A random network; its input spikes are at whole milliseconds, which each grid has.

        Args:
            seed: of all that is random.
            strength: of its input. At 1 a neuron spikes about every 5 ms, at 0.5 every 20 ms.
        """
        rng = np.random.default_rng(seed)

        def around(mean: float, spread: float) -> Array:
            return mean * np.exp(spread * rng.normal(size=NEURONS))

        recurrent = rng.normal(0, 0.5, (NEURONS, NEURONS))
        np.fill_diagonal(recurrent, 0)
        values = {
            "input_weights": strength * rng.normal(0.25, 0.55, (NEURONS, INPUTS)),
            "recurrent_weights": recurrent,
            "tau_mem_inv": around(100, 0.2),
            "tau_syn_inv": around(200, 0.2),
            "v_th": around(0.35, 0.15),
            "v_reset": -0.05 * rng.random(NEURONS),
            "v_leak": 0.02 * rng.normal(size=NEURONS),
        }
        spikes = rng.random((54, INPUTS)) < 0.09
        return cls(values, [((k + 1) * 1e-3, int(j)) for k, j in np.argwhere(spikes)])

    def spikes(self) -> Spikes:
        events = [event for event in self._run() if event.spike is not None]
        return Spikes(np.array([e.time for e in events]), np.array([e.spike for e in events], int))

    def gradient(self, loss: Loss) -> dict[str, Array]:
        events = self._run()
        spiking = [event for event in events if event.spike is not None]
        times, neurons = [e.time for e in spiking], [e.spike for e in spiking]
        _, slopes = loss(Spikes(np.array(times), np.array(neurons, int)))
        return self._adjoint(events, dict(zip(times, slopes, strict=True)))

    def worst_error(self, loss: Loss, step: float = 1e-6) -> float:
        """Of a parameter's gradient, relative to its norm, against central differences."""
        exact, worst = self.gradient(loss), 0.0
        for name, value in self.values.items():
            found = np.zeros_like(value)
            for index in np.ndindex(value.shape):
                if name == "recurrent_weights" and index[0] == index[1]:
                    continue
                size = step * (100.0 if name.startswith("tau") else 1.0)
                found[index] = (
                    self._shifted(name, index, size, loss) - self._shifted(name, index, -size, loss)
                ) / (2 * size)
            error = np.linalg.norm(found - exact[name]) / np.linalg.norm(exact[name])
            worst = max(worst, float(error))
        return worst

    def _shifted(self, name: str, index: tuple[int, ...], by: float, loss: Loss) -> float:
        value = self.values[name].copy()
        value[index] += by
        return loss(replace(self, values={**self.values, name: value}).spikes())[0]

    def _flow(self, v: Array, i: Array, time: Array | float) -> tuple[Array, Array]:
        a, b = self.values["tau_mem_inv"], self.values["tau_syn_inv"]
        leak = self.values["v_leak"]
        decayed, current = np.exp(-a * time), np.exp(-b * time)
        v = leak + (v - leak) * decayed + i * a / (a - b) * (current - decayed)
        return v, i * current

    def _first_crossing(self, v: Array, i: Array, length: float) -> tuple[float, int] | None:
        threshold = self.values["v_th"]
        above = self._flow(v, i, _PARTS * length)[0] >= threshold
        found = []
        for neuron in map(int, np.flatnonzero((above[1:] & ~above[:-1]).any(0))):
            part = int(np.argmax(above[1:, neuron] & ~above[:-1, neuron]))

            def distance(time: float, n: int = neuron) -> float:
                return float(self._flow(v, i, time)[0][n] - threshold[n])

            low, high = _PARTS[part, 0] * length, _PARTS[part + 1, 0] * length
            found.append((brentq(distance, low, high, xtol=1e-17, rtol=1e-15), neuron))
        return min(found, default=None)

    def _run(self) -> list[_Event]:
        a, leak, reset = (self.values[name] for name in ("tau_mem_inv", "v_leak", "v_reset"))
        v, i, time = leak.copy(), np.zeros(NEURONS), 0.0
        waiting = [*self.inputs, (DURATION, None)]
        events: list[_Event] = []
        while waiting:
            until, source = waiting[0]
            crossing = self._first_crossing(v, i, until - time) if until > time else None
            if crossing is None:
                events.append(_Event(until, until - time, v, i, input=source))
                v, i = self._flow(v, i, until - time)
                time = until
                waiting.pop(0)
                if source is not None:
                    i = i + self.values["input_weights"][:, source]
                continue
            length, neuron = crossing
            start = (v, i)
            v, i = self._flow(v, i, length)
            time += length
            before = float(a[neuron] * (leak[neuron] - v[neuron] + i[neuron]))
            after = float(a[neuron] * (leak[neuron] - reset[neuron] + i[neuron]))
            events.append(_Event(time, length, *start, spike=neuron, before=before, after=after))
            v[neuron] = reset[neuron]
            i = i + self.values["recurrent_weights"][:, neuron]
        return events

    def _adjoint(self, events: list[_Event], slopes: dict[float, float]) -> dict[str, Array]:
        """Goes back from the end with the adjoint variables of v and i."""
        a, b, leak = (self.values[name] for name in ("tau_mem_inv", "tau_syn_inv", "v_leak"))
        recurrent = self.values["recurrent_weights"]
        of_v, of_i = np.zeros(NEURONS), np.zeros(NEURONS)
        found = {name: np.zeros_like(value) for name, value in self.values.items()}

        def back(time: Array | float) -> tuple[Array, Array]:
            slow, fast = np.exp(-a * time), np.exp(-b * time)
            return of_v * slow, of_i * fast + a * of_v / (b - a) * (slow - fast)

        for event in reversed(events):
            if event.input is not None:
                found["input_weights"][:, event.input] += of_i
            if event.spike is not None:
                n = event.spike
                found["recurrent_weights"][:, n] += of_i
                sent = float(recurrent[:, n] @ (a * of_v - b * of_i))
                new = (event.after * of_v[n] + sent - slopes[event.time]) / event.before
                found["v_reset"][n] += of_v[n]
                found["v_th"][n] -= new
                of_v = of_v.copy()
                of_v[n] = new
            times = (_NODES[:, None] + 1) / 2 * event.length
            weights = _NODE_WEIGHTS[:, None] / 2 * event.length
            v_then, i_then = back(times)
            v, i = self._flow(event.v, event.i, event.length - times)
            found["tau_mem_inv"] += (weights * v_then * (leak - v + i)).sum(0)
            found["tau_syn_inv"] -= (weights * i_then * i).sum(0)
            found["v_leak"] += (weights * a * v_then).sum(0)
            of_v, of_i = back(event.length)
        found["v_leak"] += of_v  # the membrane starts there
        np.fill_diagonal(found["recurrent_weights"], 0)
        return found
