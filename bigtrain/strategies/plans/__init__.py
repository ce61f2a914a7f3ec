"""What each strategy keeps of a player on a rank and what it sends, as formulas; one file a strategy."""
