"""Probes measure what the doctor needs beyond what training logs anyway; each is cheap and changes nothing."""
