"""The command `ginkgo`: the operator's verbs over the REST API, from any machine with a token.

Standard library only, and nothing of the product: it starts in a tenth of a second, and the folder
can be copied.
"""
