"""The routes of the cloud API, one module for each resource."""
