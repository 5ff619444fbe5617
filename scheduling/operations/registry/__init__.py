"""The registry of operator actions: one entry for each, with the wording of its consequence.

The dashboard makes its dialogs from it, the admin its actions, the API its descriptions and the
commands their help. To add an operator action, write its function in `scheduling.operations`, add
an entry to the module of its subject, and refer to the entry from the interfaces that offer it.
"""
