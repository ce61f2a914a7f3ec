"""Kinds of fields: what a sample of a dataset is made of, one file a kind.

`spec.FieldSpec` says what a field is, `kind.FieldKind` what a kind of field must be able to do, and `registry` finds a
kind by its name.
"""
