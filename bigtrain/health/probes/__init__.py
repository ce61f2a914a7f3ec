"""Probes measure what the monitors need beyond the logged metrics; each is cheap and changes nothing."""
