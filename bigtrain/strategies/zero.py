"""A player inside a DeepSpeed engine."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bigtrain.core.batch import Batch
from bigtrain.core.errors import UserError
from bigtrain.core.saved import SavedTensor
from bigtrain.core.state import State
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.memory import MemoryUse, local_bytes
from bigtrain.engine.optimizers import GroupSettings, OptimizerConfig, limit_weights
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.engine.strategy import Strategy
from bigtrain.strategies.base import Precision
from bigtrain.strategies.rival import PlainCopy
from bigtrain.strategies.zero_traffic import count_messages


class ZeROStrategy(Strategy):
    """A player whose optimizer state, gradients or weights DeepSpeed shards over the ranks.

    Args:
        player: already on its device.
        optimizer: its config.
        precision: of matrix products and convolutions; weights and optimizer stay float32.
        settings: DeepSpeed's JSON.
        ranks: this process's place.
        whole_phase: at stage 3, gather all weights at once.
    """

    def __init__(
        self,
        player: Player,
        optimizer: OptimizerConfig,
        precision: Precision,
        settings: dict[str, Any],
        ranks: Ranks,
        *,
        whole_phase: bool,
    ) -> None:
        self._player = player
        self._stage: int = settings["zero_optimization"]["stage"]
        self._copy = PlainCopy(player) if self._stage == 3 else None
        player.to(memory_format=torch.contiguous_format)  # DeepSpeed lays all weights out in one row
        self._parameters = {name: value for name, value in player.named_parameters() if value.requires_grad}
        self._config = optimizer
        self._optimizer: Any = optimizer.build(list(self._parameters.values()))
        bound_elements(self._optimizer, optimizer)
        if self._stage == 0:
            check_whole_gradients(self._optimizer, optimizer)
        # DeepSpeed gathers and scatters by these functions; the warning would come with every message.
        warnings.filterwarnings("ignore", ".*(all_gather_into|reduce_scatter)_tensor` is deprecated", FutureWarning)
        with quietly(), _scalars_as_rows(player, self._stage):
            self._deepspeed = import_deepspeed(ranks)
            wrapped = InPrecision(player, precision, ranks.device.type)
            self._engine, *_ = self._deepspeed.initialize(
                model=wrapped, optimizer=self._optimizer, config=settings, dist_init_required=False
            )
        count_messages(self._deepspeed)
        self._whole_phase = self._stage == 3 and whole_phase
        if self._whole_phase:
            # The hooks that gather and release module by module; they would release weights between two derivatives.
            self._engine.optimizer.parameter_offload.destroy()

    def loss(self, phase: Phase, batch: Batch, rivals: Rivals, *, last_micro: bool) -> tuple[Tensor, Stats]:
        """See Strategy; always through the engine, which counts and synchronises only what passes through it."""
        if self._whole_phase:
            self._gather()
        loss, stats = self._engine(phase, batch, rivals)
        return loss, stats

    def backward(self, loss: Tensor) -> None:
        """See Strategy; the engine divides by the number of micro-batches."""
        self._engine.backward(loss)

    def step(self, settings: GroupSettings) -> Stats:
        """See Strategy; DeepSpeed skips a step with a gradient that is not finite, on all ranks alike."""
        for group in self._optimizer.param_groups:
            group.update(settings)
        self._engine.step()
        skipped = bool(self._engine.optimizer.overflow)
        norm = 0.0 if skipped else float(self._engine.optimizer._global_grad_norm)
        told = torch.tensor([norm, float(skipped)], device="cpu")  # DeepSpeed has waited for both already
        return {"gradient_norm": told[0], "skipped_step": told[1]}

    def set_trainable(self, trainable: bool) -> None:
        """See Strategy."""
        for parameter in self._parameters.values():
            parameter.requires_grad_(trainable)

    def infer(self) -> Rivals:
        """See Strategy. At stage 3 a plain frozen copy, which is given the weights of the moment; collective."""
        if self._copy is None:
            return self._player.networks()
        return self._copy.with_weights(self._player, lambda named: ((name, self._whole(one)) for name, one in named))

    def full_params(self) -> Iterator[tuple[str, Tensor]]:
        """See Strategy."""
        for name, tensor in self._player.state_dict(keep_vars=True).items():
            yield name, self._whole(tensor)

    def memory_use(self) -> MemoryUse:
        """See Strategy; of gradients, what DeepSpeed says that it keeps: all up to stage 1, shares from 2 on."""
        weights = [getattr(weight, "ds_tensor", weight) for weight in self._player.parameters()]
        kept = local_bytes([*weights, *self._player.buffers(), *(self._shares() if self._stage else ())])
        state = [value for moments in self._optimizer.state.values() for value in moments.values()]
        gradients = local_bytes(self._shares() if self._stage >= 2 else self._parameters.values())
        return MemoryUse(kept, gradients, local_bytes(value for value in state if isinstance(value, Tensor)))

    def state_dict(self) -> State:
        """See Strategy; whole tensors by name, the same from every strategy, so that each loads another's."""
        with self._all_trainable():
            return {"player": dict(self.full_params()), "optimizer": dict(self._moments())}

    def load_shares(self, state: State) -> None:
        """See Strategy.

        Raises:
            UserError: the optimizer has made more steps for some weights than for others, which DeepSpeed cannot
                remember.
        """
        steps = {float(moments["step"].whole()) for moments in state["optimizer"].values() if "step" in moments}
        if len(steps) > 1:
            raise UserError(
                "DeepSpeed has one step count for all weights of a player, but those in this checkpoint differ: "
                f"{' and '.join(f'{step:g}' for step in sorted(steps))}: continue with another strategy"
            )
        weights = state["player"]
        buffers = {name: weights[name].whole() for name, _ in self._player.named_buffers() if name in weights}
        self._player.load_state_dict(buffers, strict=False)  # what grows reads it back
        with self._all_trainable(), torch.no_grad():
            for name, parameter in self._player.named_parameters():
                self._set_weight(parameter, weights[name])
            self._set_steps(steps.pop() if steps else 0.0)
            for name, parameter in self._parameters.items():
                moments = state["optimizer"].get(name, {})
                for key in self._config.moments:
                    self._set_moment(parameter, key, moments.get(key))

    @contextlib.contextmanager
    def _all_trainable(self) -> Iterator[None]:
        """Make all parameters trainable: DeepSpeed leaves frozen ones out of the states that it returns."""
        before = [parameter.requires_grad for parameter in self._parameters.values()]
        self.set_trainable(True)
        yield
        for parameter, flag in zip(self._parameters.values(), before, strict=True):
            parameter.requires_grad_(flag)

    def _whole(self, tensor: Tensor) -> Tensor:
        """Return all of a tensor of which this rank may hold a share. Collective at stage 3."""
        if not hasattr(tensor, "ds_id"):
            return tensor.detach()
        with self._deepspeed.zero.GatheredParameters([tensor]):
            return tensor.detach().clone()

    def _gather(self) -> None:
        """Gather what is away; step() shares it out again. Collective."""
        weights: list[Any] = list(self._player.parameters())
        away = [weight for weight in weights if weight.ds_status.name == "NOT_AVAILABLE"]
        if away:
            away[0].all_gather(away)

    def _shares(self) -> list[Tensor]:
        """Return the rows of weights that this rank's optimizer moves."""
        if self._stage == 0:
            return list(self._parameters.values())
        optimizer = self._engine.optimizer
        rows: list[Tensor] = (
            optimizer.fp32_partitioned_groups_flat if self._stage == 3 else optimizer.single_partition_of_fp32_groups
        )
        return rows

    def _moments(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, parameter in self._parameters.items():
            state = self._optimizer.state[parameter if self._stage == 0 else self._shares()[0]]
            if self._stage == 0 or not state:
                yield name, dict(state)
            else:
                read = self._deepspeed.utils.safe_get_full_optimizer_state
                steps = {"step": state["step"].clone()} if self._config.counts_steps else {}
                yield name, {**steps, **{key: read(parameter, key) for key in self._config.moments}}

    def _set_steps(self, steps: float) -> None:
        """Tell the optimizer how many steps it has made, and make room for its moments if it has made none here."""
        for row in self._shares():
            state = self._optimizer.state[row]
            if self._config.counts_steps:
                state.setdefault("step", torch.zeros((), device=row.device)).fill_(steps)
            for key in self._config.moments:
                state.setdefault(key, torch.zeros_like(row))
        if self._stage in (1, 2):
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _set_weight(self, parameter: Any, value: SavedTensor) -> None:
        if self._stage == 3:
            share = self._share_of(parameter, value)
            parameter.ds_tensor.copy_(share)
            if parameter.requires_grad:
                self._deepspeed.utils.safe_set_local_fp32_param(parameter, share)
            return
        parameter.copy_(value.of_shape(parameter.shape).whole())  # every rank keeps complete weights
        if self._stage and parameter.requires_grad:
            self._deepspeed.utils.safe_set_full_fp32_param(parameter, parameter.float())

    def _set_moment(self, parameter: Any, key: str, value: SavedTensor | None) -> None:
        """Give this rank's share of a weight's moment its value; zeros for a weight that has never moved."""
        if self._stage == 3:
            share = self._share_of(parameter, value)
            self._deepspeed.utils.safe_set_local_optimizer_state(parameter, share, key)
            return
        # DeepSpeed has no function for a share at stages 1 and 2; this is where its own for complete tensors writes.
        fragment = parameter._hp_mapping if self._stage else None
        if self._stage and fragment is None:
            return  # the weight belongs to other ranks
        target: Tensor = self._optimizer.state[parameter][key] if fragment is None else fragment.get_hp_fragment(key)
        first = 0 if fragment is None else fragment.lp_fragment_address.start
        if value is None:
            target.zero_()
        else:
            target.copy_(value.of_shape(parameter.shape).read(first, first + target.numel()).view(target.shape))

    def _share_of(self, parameter: Any, value: SavedTensor | None) -> Tensor:
        """Return this rank's share of a tensor at stage 3; what lies behind the tensor's end is zero."""
        size: int = parameter.ds_tensor.numel()
        share = torch.zeros(size, device=parameter.ds_tensor.device)
        if value is not None:
            elements = value.of_shape(parameter.ds_shape).shape.numel()
            first, last = (
                min(size * rank, elements) for rank in (self._engine.global_rank, self._engine.global_rank + 1)
            )
            share[: last - first].copy_(value.read(first, last))
        return share


@contextlib.contextmanager
def _scalars_as_rows(player: Player, stage: int) -> Iterator[None]:
    """Have DeepSpeed take scalars in: it sends a weight's bytes from rank 0, and cannot see those of a scalar.

    At stage 3 they get a dimension for a while. Elsewhere their hooks remember their shape, and they are sent here.
    """
    scalars = [parameter for parameter in player.parameters() if parameter.ndim == 0]
    for parameter in scalars:
        if stage == 3:
            parameter.data = parameter.data.reshape(1)
        else:
            dist.broadcast(parameter.data, src=0)
            parameter.ds_optim_param = True  # type: ignore[attr-defined]  # what it does not send
    yield
    for parameter in scalars:
        if stage == 3:
            parameter.ds_shape = torch.Size(())  # type: ignore[attr-defined]


class InPrecision(nn.Module):
    """A player that computes in the precision asked for; an autocast around the engine, it would switch off.

    Args:
        player: to wrap.
        precision: of matrix products and convolutions.
        device_type: where it computes.
    """

    def __init__(self, player: Player, precision: Precision, device_type: str) -> None:
        super().__init__()
        self.player, self.precision, self.device_type = player, precision, device_type

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """See Player."""
        with torch.autocast(self.device_type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss, stats = self.player(phase, batch, rivals)
        return loss, stats


def bound_elements(optimizer: torch.optim.Optimizer, limits: OptimizerConfig) -> None:
    """Have an optimizer bound each element of the gradient before a step, and each weight after it.

    Args:
        optimizer: DeepSpeed puts its rows in the place of the parameters.
        limits: the bounds.
    """

    def before(stepping: torch.optim.Optimizer, *_: Any) -> None:
        limit_weights([value.grad for value in _with_gradients(stepping)], limits.clip_value)

    def after(stepping: torch.optim.Optimizer, *_: Any) -> None:
        limit_weights(_with_gradients(stepping), limits.weight_limit)

    if limits.clip_value is not None:
        optimizer.register_step_pre_hook(torch.no_grad()(before))
    if limits.weight_limit is not None:
        optimizer.register_step_post_hook(torch.no_grad()(after))


def check_whole_gradients(optimizer: Any, limits: OptimizerConfig) -> None:
    """Have an optimizer skip steps whose gradient is not finite, and bound its norm, where DeepSpeed does neither.

    The optimizer tells of its last step as DeepSpeed's own do: `overflow` and `_global_grad_norm`.
    """
    optimizer.overflow, optimizer._global_grad_norm = False, 0.0

    def before(stepping: Any, *_: Any) -> None:
        gradients: list[Tensor] = [value.grad for value in _with_gradients(stepping)]
        norm = torch.nn.utils.get_total_norm(gradients)
        stepping.overflow, stepping._global_grad_norm = not bool(norm.isfinite()), float(norm)
        stepping.found_inf = (~norm.isfinite()).to(torch.float32)
        if limits.clip_norm is not None:
            torch._foreach_mul_(gradients, (limits.clip_norm / (norm + 1e-6)).clamp(max=1.0))

    optimizer.register_step_pre_hook(torch.no_grad()(before))


def _with_gradients(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [value for group in optimizer.param_groups for value in group["params"] if value.grad is not None]


def import_deepspeed(ranks: Ranks) -> Any:
    """Import DeepSpeed for the device that this rank computes on, and keep it from compiling in mid-run.

    On CPUs it would build an all-reduce through shared memory with the C++ compiler, and wait for ever for the lock of
    a build that was killed; gloo's is what every other strategy uses.
    """
    os.environ.setdefault("DS_ACCELERATOR", ranks.device.type)
    os.environ.setdefault("LOCAL_RANK", str(ranks.local_rank))
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def problem_with(settings: dict[str, Any]) -> str | None:
    """Return `.key: reason` for the first thing in DeepSpeed's section on ZeRO that it does not know."""
    import pydantic

    with quietly():
        from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    try:
        DeepSpeedZeroConfig(**settings["zero_optimization"])
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f".{'.'.join(map(str, first['loc']))}: DeepSpeed says: {first['msg']}"
    return None


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Suppress what DeepSpeed logs, prints and warns of, except for errors."""
    for name in ("DeepSpeed", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
