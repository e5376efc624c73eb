"""Tests of attaching: names, places, requests, and what is refused."""
