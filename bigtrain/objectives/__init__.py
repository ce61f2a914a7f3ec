"""Losses and regularisers as pure functions that read like the papers."""
