"""Base classes of the strategies: their settings, and the optimizer step of those that use PyTorch alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from bigtrain.core.batch import Batch
from bigtrain.core.config import Config
from bigtrain.core.saved import SavedTensor
from bigtrain.core.state import State
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.memory import MemoryUse, local_bytes
from bigtrain.distributed.precision import LossScaler, MasterWeights, autocast
from bigtrain.distributed.precision import Precision as Precision
from bigtrain.engine.optimizers import GroupSettings, OptimizerConfig, limit_weights
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.engine.strategy import Capability, Strategy
from bigtrain.strategies.plans.base import StrategyPlan
from bigtrain.strategies.plans.work import Sizes

NOT_COMPILED = "gathers weights in each phase and cannot train compiled networks: use 'ddp'"
"""What strategies that shard the weights say where `compile` is asked for."""


class StrategySettings(Config, ABC):
    """The config of a strategy, which builds it for a player."""

    kind: str

    @property
    def lacks(self) -> dict[Capability, str]:
        """What these settings cannot do, each with the way out; keys in it are the strategy's own."""
        return {}

    def check_ranks(self, world_size: int) -> None:
        """Find out whether the strategy can train on so many ranks.

        Raises:
            ConfigError: it cannot; the message begins with the key, as the strategy itself calls it.
        """

    def check_installed(self) -> None:
        """Find out whether this machine has what the strategy needs.

        Raises:
            ConfigError: it has not; the message begins with the key, as the strategy itself calls it.
        """

    @abstractmethod
    def build(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, ranks: Ranks
    ) -> "Strategy":
        """Wrap a player. Collective: rank 0's weights go to all."""

    @abstractmethod
    def plan(
        self, sizes: Sizes, optimizer: OptimizerConfig, ranks: int, precision: Precision, accumulation: int
    ) -> StrategyPlan:
        """Return what the strategy would keep of a player and send, in formulas.

        Args:
            sizes: the player's.
            optimizer: the player's.
            ranks: all of them.
            precision: of the run.
            accumulation: micro-batches a step.
        """


class TorchStrategy(Strategy):
    """An optimizer on a player's parameters; base of the strategies that step in this process, whole or sharded.

    Attributes:
        whole: whether this rank holds whole weights.

    Args:
        player: already on its device, and sharded where it is to be.
        optimizer: its config.
        precision: see `Precision`; what the optimizer moves is float32.
        accumulation: micro-batches a step.
    """

    whole = True

    def __init__(self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int) -> None:
        self._player = player
        self._module: nn.Module = player
        self._precision = precision
        self._accumulation = accumulation
        device = next(player.parameters()).device
        self._device_type = device.type
        # What is frozen already stays so.
        trainable: dict[str, Tensor] = {name: p for name, p in player.named_parameters() if p.requires_grad}
        self._parameters = list(trainable.values())
        self._masters = MasterWeights(trainable) if precision == "pure_bf16" and self.whole else None
        self._moved = self._masters.masters if self._masters else trainable
        self._scaler = LossScaler(device) if precision == "fp16" else None
        self._limits = optimizer
        self._optimizer = optimizer.build(self._moved.values())

    def loss(self, phase: Phase, batch: Batch, rivals: Rivals, *, last_micro: bool) -> tuple[Tensor, Stats]:
        """See Strategy."""
        with autocast(self._device_type, self._precision):
            loss, stats = self._module(phase, batch, rivals)
        return loss, stats

    def backward(self, loss: Tensor) -> None:
        """See Strategy."""
        scale = self._scaler.scale if self._scaler else 1.0
        (loss * (scale / self._accumulation)).backward()  # type: ignore[no-untyped-call]
        if self._masters:
            self._masters.take_gradients()

    def step(self, settings: GroupSettings) -> Stats:
        """See Strategy; a step with a gradient that is not finite is skipped, on all ranks alike.

        The device decides that by itself: the host does not wait for it.
        """
        self._average_gradients()
        gradients = self._gradients()
        if self._scaler:
            self._scaler.unscale(gradients)
        norm = self._norm(gradients)
        skipped = (~norm.isfinite()).to(torch.float32)
        if self._scaler:
            self._scaler.update(skipped)
        self._clip(gradients, norm)
        for group in self._optimizer.param_groups:
            group.update(settings)
        self._optimizer.found_inf = skipped  # type: ignore[attr-defined]  # makes fused kernels skip the update
        self._optimizer.step()
        with torch.no_grad():
            limit_weights(list(self._moved.values()), self._limits.weight_limit)
        if self._masters:
            self._masters.publish()
        self._optimizer.zero_grad(set_to_none=True)
        return {"gradient_norm": torch.where(skipped > 0, 0.0, norm), "skipped_step": skipped}

    def set_trainable(self, trainable: bool) -> None:
        """See Strategy."""
        for parameter in self._parameters:
            parameter.requires_grad_(trainable)

    def infer(self) -> Rivals:
        """See Strategy."""
        return self._player.networks()

    def full_params(self) -> Iterator[tuple[str, Tensor]]:
        """See Strategy."""
        masters = self._masters.masters if self._masters else {}
        for name, tensor in self._player.state_dict().items():
            yield name, masters[name] if name in masters else self._whole(tensor)

    def memory_use(self) -> MemoryUse:
        """See Strategy."""
        state = [value for values in self._optimizer.state.values() for value in values.values()]
        gradients = local_bytes(self._moved.values())
        masters = self._masters.masters.values() if self._masters else ()
        return MemoryUse(local_bytes([*self._player.state_dict().values(), *masters]), gradients, local_bytes(state))

    def state_dict(self) -> State:
        """See Strategy; tensors by name, the same from every strategy, so that each loads another's."""
        masters = self._masters.masters if self._masters else {}
        moments = {
            name: dict(self._optimizer.state[self._moved[name]]) if name in self._moved else {}
            for name, _ in self._player.named_parameters()
        }
        scaler = {"scaler": self._scaler.state_dict()} if self._scaler else {}
        return {"player": {**self._player.state_dict(), **masters}, "optimizer": moments, **scaler}

    def load_shares(self, state: State) -> None:
        """See Strategy."""
        self._load_weights(state["player"])
        if self._scaler and "scaler" in state:
            self._scaler.load_state_dict(state["scaler"])
        for name, parameter in self._moved.items():
            moments = state["optimizer"].get(name, {})  # a parameter that never had a gradient has none
            zeros = () if self._limits.counts_steps else self._limits.moments  # Adam itself begins where it has none
            self._optimizer.state[parameter] = {key: torch.zeros_like(parameter) for key in zeros} | {
                # The fused kernel reads the number of steps where the parameter is.
                key: value.whole().to(parameter.device, copy=True) if key == "step" else self._mine(value, parameter)
                for key, value in moments.items()
            }

    def _load_weights(self, saved: Mapping[str, SavedTensor]) -> None:
        held = {**self._player.state_dict(), **(self._masters.masters if self._masters else {})}
        weights = {name: self._mine(value, held[name]) for name, value in saved.items()}
        self._player.load_state_dict(weights)
        if self._masters:
            self._masters.load(weights)

    def _gradients(self) -> list[Tensor]:
        """Return the gradients of what Adam moves."""
        return [tensor.grad for tensor in self._moved.values() if tensor.grad is not None]

    def _average_gradients(self) -> None:
        """Make the gradients the mean over all ranks, if the backward has not done so. Collective."""

    def _whole(self, tensor: Tensor) -> Tensor:
        """Return all of a tensor of which this rank may hold a share. Collective where sharded."""
        return tensor

    def _mine(self, value: SavedTensor, like: Tensor) -> Tensor:
        """Return this rank's share of a tensor, in the place and memory layout of `like`.

        Fused Adam walks weight, gradient and moments side by side, and computes nonsense, without an error, where
        their layouts differ.
        """
        return torch.empty_like(like).copy_(value.of_shape(like.shape).whole())

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        """Return the L2 norm of all gradients together."""
        return torch.nn.utils.get_total_norm(gradients)

    def _clip(self, gradients: list[Tensor], norm: Tensor) -> None:
        if self._limits.clip_norm is not None:
            torch._foreach_mul_(gradients, (self._limits.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        if self._limits.clip_value is not None:
            torch._foreach_clamp_min_(gradients, -self._limits.clip_value)
            torch._foreach_clamp_max_(gradients, self._limits.clip_value)
