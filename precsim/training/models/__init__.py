"""Small networks, written as plain functions of parameters and operations."""
