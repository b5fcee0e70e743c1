"""The auditor: everything an answer rests on, checked from one file, offline, by somebody who trusts none of it.

`bundle` is the file, `audit` the checks in their order, `findings` what they say, `page` the same for people, `making`
how whoever holds the parts puts a bundle together, `compare` what N cells said held side by side. No engine is
imported: re-execution lives with the command. docs/spec/audit.md has the rules.
"""
