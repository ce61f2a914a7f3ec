"""Ranks, collective operations, and the strategies that train a player on them."""
