"""Write the package of a new strategy: code, test, and the commands to build and deploy it."""
