"""The relying party that holds the keys: challenge, evidence, appraisal, grant. Run by the key owner.

`session` decides and touches nothing; `broker` joins it to the `store`, whose every decision is in the `log`; `server`
is the HTTPS edge; `wrapping` keeps secrets at rest. docs/spec/key-release.md; docs/broker-operator.md.
"""
