"""Callbacks that stop a job that is no longer worth its price."""
