"""A plan for people: tables in the terminal, and a plot of efficiency."""

from pathlib import Path

from rich.table import Table

from bigtrain.core.logging import console
from bigtrain.planning.plan import Plan
from bigtrain.planning.planner import Estimate

_GIB = 2.0**30


def show(plan: Plan, title: str) -> None:
    """Print a plan."""
    cluster, own = plan.cluster, plan.own
    console.print(
        f"[bold]{title}[/] on {cluster.nodes} x {cluster.gpus_per_node} {cluster.gpu.name}, "
        f"{cluster.gpu.link_gb_s:g} GB/s inside a node, {cluster.network / 1e9:g} GB/s between nodes\n"
    )
    console.print(_work_table(plan))
    console.print(_memory_table(plan))
    console.print(_speed_table(plan))
    for one in (one for one in plan.estimates if one.refused):
        console.print(f"[dim]{one.name} is refused: {one.refused}[/]")
    console.print(_message_table(plan))
    console.print(_outcome(plan))
    if plan.best == plan.chosen:
        console.print(f"\nbest: [bold]{plan.best}[/], as configured: {plan.reason}")
    elif plan.best:
        console.print(f"\nbest: [bold]{plan.best}[/] (configured: {plan.chosen}): {plan.reason}")
    else:
        console.print(f"\n[bold red]does not fit[/]: {plan.reason}")
    if own.refused:
        console.print(f"[bold red]{plan.chosen}[/]: {own.refused}")
    for hazard in plan.hazards:
        console.print(f"[yellow]problem:[/] {hazard.what}: [bold]{hazard.remedy}[/]")
    for note in plan.notes:
        console.print(f"[dim]assumption: {note}[/]")


def _work_table(plan: Plan) -> Table:
    weights = ", ".join(f"{name} {count / 1e6:,.1f} M" for name, count in plan.parameters.items())
    table = _table(f"{weights} parameters; {plan.gflop_per_img:,.4g} GFLOP per image")
    unit, name = _unit(plan)
    for column in ("phase", "per step", "GFLOP per image", f"activations {name}"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase in plan.phases:
        activations = f"{phase['activations'] / unit:,.2f}"
        table.add_row(phase["name"], f"{phase['often']:g}", f"{phase['gflop_per_img']:,.4g}", activations)
    return table


def _memory_table(plan: Plan) -> Table:
    unit, name = _unit(plan)
    table = _table(f"{name} per GPU at its maximum, micro-batches of {plan.micro_batch}")
    parts = ("weights", "gradi-\nents", "Adam", "EMA", "activa-\ntions", "buf-\nfers", "sum")
    for column in ("strategy", *parts, "fits", "largest\nmicro-\nbatch"):
        table.add_column(column, justify="left" if column == "strategy" else "right", no_wrap=True)
    for one in plan.estimates:
        needs = [f"{part / unit:,.2f}" for part in (*one.memory.values(), one.memory.total)]
        fits = "yes" if one.fits else "[red]no[/]"
        table.add_row(one.name, *needs, fits, str(one.largest_micro_batch or "none"), style=_style(one, plan))
    return table


def _speed_table(plan: Plan) -> Table:
    table = _table(f"one step, {plan.accumulation} micro-batch{'es' * (plan.accumulation > 1)} per GPU")
    for column in ("strategy", "s", "compu-\nting", "upda-\nting", "waiting", "img/s", "MFU", "effi-\nciency"):
        table.add_column(column, justify="left" if column == "strategy" else "right", no_wrap=True)
    for one in (one for one in plan.estimates if one.refused is None):
        time = one.time
        shares = [f"{part / time.total:.1%}" for part in (time.compute, time.update, time.waiting)]
        numbers = [f"{time.total:.3f}", *shares, f"{one.img_per_s:,.0f}", f"{one.mfu:.1%}", f"{one.efficiency:.1%}"]
        table.add_row(one.name, *numbers, style=_style(one, plan))
    return table


def _unit(plan: Plan) -> tuple[float, str]:
    return (_GIB, "GiB") if plan.own.memory.total >= _GIB else (2.0**20, "MiB")


def _style(one: Estimate, plan: Plan) -> str | None:
    return "bold" if one.name == plan.chosen else "dim" if one.refused else None


def _message_table(plan: Plan) -> Table:
    table = _table(f"what a rank sends in an average step ({plan.chosen})")
    for column in ("message", "operation", "number", "MiB in total"):
        table.add_column(column, justify="left" if column in ("message", "operation") else "right")
    for entry in plan.own.messages:
        table.add_row(entry["what"], entry["kind"], f"{entry['messages']:,.4g}", f"{entry['bytes'] / 2**20:,.3f}")
    total = sum(entry["bytes"] for entry in plan.own.messages)
    table.add_row(
        "all", "", f"{sum(e['messages'] for e in plan.own.messages):,.4g}", f"{total / 2**20:,.3f}", style="bold"
    )
    return table


def _outcome(plan: Plan) -> Table:
    table = Table(title=f"the run ({plan.chosen})", title_justify="left", box=None, show_header=False)
    cost = "no price known: set --price" if plan.usd is None else f"{plan.usd:,.0f} USD"
    days = f" ({plan.hours / 24:.1f} days)" if plan.hours > 48 else ""
    checkpoint, data = plan.checkpoint, plan.data
    table.add_row("time", f"{plan.hours:,.1f} hours{days}, {plan.gpu_hours:,.0f} GPU-hours, {cost}")
    size, snapshot = checkpoint["bytes"] / _GIB, checkpoint["snapshot_bytes"] / _GIB
    stall = f"{checkpoint['stall_s']:.2f} s, {checkpoint['share']:.2%} of the time"
    written = (
        f"on disk in {checkpoint['write_s']:.0f} s; a node reads {checkpoint['load_bytes'] / _GIB:.2f} GiB at a start"
    )
    table.add_row("checkpoint", f"{size:.2f} GiB (a snapshot {snapshot:.2f}); delays training by {stall}; {written}")
    table.add_row(
        "data",
        f"{data['bytes_per_s'] / 1e6:,.0f} MB/s uncompressed, {data['bytes_per_s_node'] / 1e6:,.0f} MB/s per node; "
        f"{data['least_shards']:.0f} shards or more",
    )
    if plan.determinism is not None:
        table.add_row("deterministic", plan.determinism.in_words())
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, title_style="italic", pad_edge=False)


def plot_efficiency(plan: Plan, title: str, path: Path) -> None:
    """Draw efficiency over numbers of cards into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2))
    axis = figure.subplots()
    gpus = [point.gpus for point in plan.curve]
    images = plan.micro_batch * plan.accumulation
    axis.plot(
        gpus, [100 * p.same_images for p in plan.curve], marker="o", label=f"{images} images per GPU, batch grows"
    )
    same = [(point.gpus, 100 * point.same_batch) for point in plan.curve if point.same_batch is not None]
    batch = images * plan.cluster.world_size
    axis.plot(*zip(*same, strict=True), marker="s", linestyle="--", label=f"batch of {batch} divided")
    axis.axvline(plan.cluster.world_size, color="grey", linewidth=0.8)
    axis.annotate(
        "planned ", (plan.cluster.world_size, 50), rotation=90, color="grey", fontsize=8, ha="right", va="center"
    )
    axis.set_xscale("log", base=2)
    axis.set_xticks(gpus, [str(count) for count in gpus])
    axis.set_ylim(0, 105)
    axis.set_xlabel(f"{plan.cluster.gpu.name}, nodes of {plan.cluster.gpus_per_node}")
    axis.set_ylabel("efficiency, %")
    axis.set_title(f"{title}: {plan.chosen}, predicted", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="best")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
