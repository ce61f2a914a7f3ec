"""Who is to blame for a hang."""

from bigtrain.distributed.verdict import Sign, diagnose


def signs(*, ticks: list[int], beats: list[int], collectives: list[int]) -> dict[int, Sign]:
    rows = enumerate(zip(ticks, beats, collectives, strict=True))
    return {rank: Sign(rank, "here", 100 + rank, *numbers, "d_main") for rank, numbers in rows}


def culprits(before: dict[int, Sign], after: dict[int, Sign]) -> list[int]:
    return [sign.rank for sign in diagnose(before, after, world_size=len(after)).culprits]


BEFORE = signs(ticks=[5, 5, 5], beats=[9, 9, 9], collectives=[40, 40, 40])


def test_a_process_that_does_not_run_is_to_blame_before_all_others() -> None:
    after = signs(ticks=[7, 5, 7], beats=[9, 9, 8], collectives=[40, 40, 39])
    assert culprits(BEFORE, after) == [1]


def test_then_the_rank_that_has_not_entered_what_the_others_wait_in() -> None:
    assert culprits(BEFORE, signs(ticks=[7] * 3, beats=[9, 9, 9], collectives=[41, 41, 40])) == [2]
    assert culprits(BEFORE, signs(ticks=[7] * 3, beats=[9, 8, 9], collectives=[41, 41, 41])) == [1]


def test_nobody_is_named_where_all_wait_in_the_same_place_or_one_never_came() -> None:
    after = signs(ticks=[7] * 3, beats=[9] * 3, collectives=[41] * 3)
    assert culprits(BEFORE, after) == []
    assert "network" in diagnose(BEFORE, after, world_size=3).text
    assert "rank 3 never joined" in diagnose(BEFORE, after, world_size=4).text
    assert [s.rank for s in diagnose({0: BEFORE[0]}, {0: after[0]}, world_size=1).culprits] == [0]
