"""The auditor: everything an answer rests on, checked from one file, offline, by somebody who trusts none of it.

`audit_bundle` is the file, `checks` the table of the checks in their order, `rows` what a row is and the loop that
makes them, `audit` the two together. `order_checks` to `answer_checks` judge a row each. `findings` is what an audit
says, `page` the same for people, `bundle_builder` how whoever holds the parts puts a bundle together, `comparison` what
N cells said held side by side. No engine is imported: re-execution lives with the command. docs/spec/audit.md has the
rules.
"""
