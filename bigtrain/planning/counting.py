"""What the phases of a step compute, counted without computing: under PyTorch's FakeTensorMode.

The players run on tensors that have shapes and no content. Every operator is written down with its floating-point
operations and the bytes that it reads and writes; storages are followed from
birth to death, as `bigtrain.distributed.memory` follows them. Nothing is read: images and labels are made up.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode

from bigtrain.config import TrainingConfig
from bigtrain.core.batch import Batch
from bigtrain.core.config import ConfigError
from bigtrain.core.on_gpus import as_on_gpus
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.distributed.determinism import repeatable_operators
from bigtrain.distributed.memory import LiveBytes, tensors_in
from bigtrain.distributed.precision import Precision, autocast
from bigtrain.engine.made_up import empty_batch
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.engine.step import compute_gradients
from bigtrain.engine.strategy import GradientSource
from bigtrain.engine.task import Task
from bigtrain.models.layers.growth import Growth
from bigtrain.models.recompute import recompute_stages
from bigtrain.planning.operations import operations
from bigtrain.strategies.fsdp import stages_of
from bigtrain.strategies.plans.work import Sizes, Work

_CPU = torch.device("cpu")
_PERIOD = 4096
"""Steps after which the phases that are due are taken to repeat, if not before."""
_PARTS = 16
"""Parts of a run whose ends are looked at."""

_LAUNCH_NOTHING = {
    getattr(torch.ops.aten, name)
    for name in ("detach", "empty", "empty_like", "empty_strided", "new_empty", "_unsafe_view")
} | {torch.ops.aten.new_empty_strided, torch.ops.aten.scalar_tensor}

_SUMS_BY_INDEX = {torch.ops.aten.index_put, torch.ops.aten.index_put_}

Kind = tuple[str, ...]
"""A kind of phase: its name, and the names of its values, such as the terms that are due."""


class FakeRun:
    """A run's players without content, and what their phases take.

    Args:
        config: of the run.
        on_gpus: whether the operators are those of a GPU, where random bits are one, and those that the config's
            `deterministic` asks for.

    Attributes:
        task: on fake tensors.
    """

    def __init__(self, config: TrainingConfig, *, on_gpus: bool = False) -> None:
        self._on_gpus = on_gpus
        self._config = config.uncompiled()
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._messages: list[int] = []
        self._fields = config.data.field_specs()
        with self._mode:
            self.task: Task = self._config.build_task(self._fields, {}, seed=0, device=_CPU)
            for frozen in self.task.frozen():
                frozen.allocate(_CPU)
            end = Progress(round(config.total_kimg * 1000), config.global_batch)
            end.samples_seen = end.total
            self.task.before_step(end)  # networks that grow have grown
        for player in self.task.players.values():
            if config.activation_checkpointing:
                for network in player.networks().values():
                    recompute_stages(network)
            for module in player.modules():
                if hasattr(module, "over_ranks"):
                    vars(module)["over_ranks"] = self._over_ranks
        self._growths = [
            part for player in self.task.players.values() for part in player.modules() if isinstance(part, Growth)
        ]
        self._trainable = {
            name: [key for key, value in player.named_parameters() if value.requires_grad]
            for name, player in self.task.players.items()
        }
        if config.precision == "pure_bf16":
            self._halve()

    def sizes(self, name: str) -> Sizes:
        """Return a player's tensors."""
        player = self.task.players[name]
        shapes = {key: tuple(value.shape) for key, value in player.named_parameters()}
        names = {value: key for key, value in player.named_parameters()}
        stages = [[names[value] for value in stage.parameters()] for stage in stages_of(player)]
        staged = {key for stage in stages for key in stage}
        parts = [*stages, [key for key in shapes if key not in staged]]
        return Sizes(
            name=name,
            parameters=shapes,
            trainable=tuple(self._trainable[name]),
            buffers=sum(value.nbytes for value in player.buffers())
            + sum(value.nbytes for network in player.frozen.values() for value in network.parameters()),
            parts=tuple(tuple(key for key in part if shapes[key]) for part in parts),
        )

    def averaged(self) -> dict[str, tuple[int, int]]:
        """Return the bytes of weights and of buffers of each player's networks that are averaged."""
        found: dict[str, tuple[int, int]] = {}
        for network in self.task.averaged.values():
            name, _ = self.task.owner_of(network)
            weights, buffers = found.get(name, (0, 0))
            weights += sum(4 * value.numel() for value in network.parameters())
            found[name] = (weights, buffers + sum(value.nbytes for value in network.buffers()))
        return found

    def kinds(self) -> dict[Kind, tuple[Phase, float]]:
        """Return every kind of phase: one of them, and how often a step has it."""
        batch = self._config.global_batch * self.task.batches_per_step
        return kinds_of_phases(self.task, Progress(round(self._config.total_kimg * 1000), batch))

    def grow_to(self, progress: Progress) -> tuple[tuple[int, bool], ...]:
        """Let the networks grow to a place of the run, and return how far each has; at first they have grown up."""
        if self._growths:
            with self._mode:
                self.task.before_step(progress)
        return tuple((growth.complete, growth.fading) for growth in self._growths)

    def work(self, phase: Phase, size: int) -> Work:
        """Count a micro-batch of a phase.

        Raises:
            ConfigError: the phase goes by what is in a tensor.
        """
        player = self.task.players[phase.player]
        with self._mode:
            batch = self._batch(size)
        self._messages.clear()
        counter, live = _Operators(), _Peaks()
        sources = {
            name: _CountedPlayer(one, self._trainable[name], self._config.precision, counter, live)
            for name, one in self.task.players.items()
        }
        try:
            with self._operators_of_device(), self._mode, live, counter, _without_fake_warnings():
                compute_gradients(self.task, sources, phase, batch, size)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise ConfigError(
                f"{phase.name} cannot be planned: {error.func} depends on the values of a tensor, but a plan only "
                f"has shapes"
            ) from None
        finally:
            player.zero_grad(set_to_none=True)
        counted = sources[phase.player]
        rows = np.array(counter.rows, dtype=np.float64).reshape(-1, 3)
        return Work(
            player=phase.player,
            second_order=any(term.second_order for name, term in _terms(player) if name in phase.values),
            names=tuple(counter.names),
            flops=rows[:, 0],
            bytes=rows[:, 1],
            reduced=rows[:, 2] > 0,
            forward=counted.forward_operators,
            arrivals=tuple(counted.arrivals),
            activations=live.peak_besides,
            with_gradients=live.peak,
            late=live.late,
            statistics=tuple(self._messages),
        )

    @contextmanager
    def _operators_of_device(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self._on_gpus:
                stack.enter_context(as_on_gpus())
                if self._config.deterministic:
                    stack.enter_context(repeatable_operators())
            yield

    def _batch(self, size: int) -> Batch:
        with unset_fake_temporarily():
            index = torch.arange(size)  # real: which samples a term takes may depend on it
        return empty_batch(self._fields, size, Draws(0, index))

    def _over_ranks(self, tensor: Tensor) -> Tensor:
        self._messages.append(tensor.nbytes)
        return tensor

    def _halve(self) -> None:
        """Give the players the bfloat16 weights that they compute with."""
        with self._mode:
            for name, player in self.task.players.items():
                for module in player.modules():
                    for key, value in module._parameters.items():
                        if value is not None and value.requires_grad:
                            module._parameters[key] = nn.Parameter(value.detach().to(torch.bfloat16))
                assert set(self._trainable[name]) <= dict(player.named_parameters()).keys()


def kinds_of_phases(task: Task, progress: Progress) -> dict[Kind, tuple[Phase, float]]:
    """Return every kind of phase of a run: one of them, and how often a step has it.

    A run is looked at in some places from its first steps to its last, because a game may begin late, and a schedule
    may end a term.
    """
    period, steps = period_of(task), -(-progress.total // progress.batch)
    last = max(steps // period - 1, 0)
    places = {round(last * part / _PARTS) * period for part in range(_PARTS + 1)}
    seen = Counter[Kind]()
    first: dict[Kind, Phase] = {}
    for place in sorted(places):
        there = Progress(progress.total, progress.batch)
        there.samples_seen = place * progress.batch
        for _ in range(period):
            for phase in task.phases(there):
                first.setdefault(kind_of(phase), phase)
                seen[kind_of(phase)] += 1
            there.advance()
    return {kind: (first[kind], count / period / len(places)) for kind, count in seen.items()}


def fullest_phases(task: Task, progress: Progress) -> list[Phase]:
    """Return a phase of each kind that computes all that another one of its name does, and more."""
    kinds = kinds_of_phases(task, progress)
    return [phase for kind, (phase, _) in kinds.items() if not any(set(kind) < set(other) for other in kinds)]


def kind_of(phase: Phase) -> Kind:
    """Return the kind of a phase."""
    return (phase.name, *sorted(phase.values))


def period_of(task: Task) -> int:
    """Return the number of steps after which the same terms are due again, by their intervals."""
    intervals = [term.interval for player in task.players.values() for _, term in _terms(player)]
    return min(math.lcm(*intervals), _PERIOD) if intervals else 1


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down (FLOPs, bytes, 16 bits?) of every operator; what depends on no fake tensor is really computed.

    Those that launch nothing are left out: views, questions about a tensor's device or dtype, memory without content.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []
        self.rows: list[tuple[float, float, float]] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors_in((args, tuple(kwargs.values())))
        real = given and not any(isinstance(tensor, FakeTensor) for tensor in given)
        if real and operator is not torch.ops.bigtrain.random_bits.default:
            with unset_fake_temporarily():
                return operator(*args, **kwargs)
        result = operator(*args, **kwargs)
        made = tensors_in((result,))
        if made and not operator.is_view and operator.overloadpacket not in _LAUNCH_NOTHING:
            flops = operations(operator, args, kwargs, result)
            moved = sum(min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in (*given, *made))
            moved += _sorted_bytes(operator, args, kwargs)
            widest = max((tensor.itemsize for tensor in given if tensor.is_floating_point()), default=4)
            self.names.append(str(operator.overloadpacket))
            self.rows.append((float(flops), float(moved), float(widest == 2)))
        return result


def _sorted_bytes(operator: Any, args: Any, kwargs: Any) -> int:
    """Return the bytes that GPUs move to sort the places of a sum by index, which they then add up in order.

    A radix sort reads and writes a place and its number, 16 bytes, for each eight of the some 32 bits of a place.
    """
    if operator.overloadpacket not in _SUMS_BY_INDEX or not (
        kwargs.get("accumulate") or (*args, False)[3:4] == (True,)
    ):
        return 0
    places: int = max(index.numel() for index in args[1] if index is not None)
    return 4 * 2 * 16 * places


class _Peaks(LiveBytes):  # type: ignore[no-untyped-call]
    """Also follows the most bytes besides finished gradients, and since the first of them."""

    def __init__(self) -> None:
        super().__init__()
        self.finished = self.peak_besides = self.late = 0

    def _follow(self, storage: torch.UntypedStorage) -> None:
        super()._follow(storage)
        self.peak_besides = max(self.peak_besides, self.now - self.finished)
        self.late = max(self.late, self.now) if self.finished else 0


class _CountedPlayer(GradientSource):
    """Computes a player's gradients on tensors without content: no ranks, no optimizer.

    Args:
        player: on fake tensors.
        trainable: names of the parameters that are not frozen from the start.
        precision: of the run.
        counter: of the operators.
        live: follows the memory.

    Attributes:
        forward_operators: operators that were counted when the loss was there.
        arrivals: for each gradient that is complete, the operators that were counted by then and its parameter's name.
    """

    def __init__(
        self, player: Player, trainable: Sequence[str], precision: Precision, counter: _Operators, live: _Peaks
    ) -> None:
        named = dict(player.named_parameters())
        self._player, self._precision, self._counter, self._live = player, precision, counter, live
        self._trainable = {name: named[name] for name in trainable}
        self.forward_operators = 0
        self.arrivals: list[tuple[int, str]] = []

    def loss(self, phase: Phase, batch: Batch, rivals: Rivals, *, last_micro: bool) -> tuple[Tensor, Stats]:
        """See GradientSource."""
        with autocast("cpu", self._precision):
            loss, stats = self._player(phase, batch, rivals)
        self.forward_operators = len(self._counter.rows)
        return loss, stats

    def backward(self, loss: Tensor) -> None:
        """See GradientSource; the loss is not divided by the number of micro-batches."""
        hooks = [
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda arrived, name=name: self._arrived(name, arrived)
            )
            for name, parameter in self._trainable.items()
        ]
        loss.backward()  # type: ignore[no-untyped-call]
        for hook in hooks:
            hook.remove()

    def set_trainable(self, trainable: bool) -> None:
        """See GradientSource."""
        for parameter in self._trainable.values():
            parameter.requires_grad_(trainable)

    def infer(self) -> Rivals:
        """See GradientSource."""
        return self._player.networks()

    def _arrived(self, name: str, parameter: Tensor) -> None:
        self.arrivals.append((len(self._counter.rows), name))
        self._live.finished += parameter.nbytes
        self._live.late = max(self._live.late, self._live.now)


def _terms(player: Player) -> list[tuple[str, Any]]:
    terms: Mapping[str, Any] = getattr(player, "terms", {})
    return list(terms.items())


@contextmanager
def _without_fake_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
