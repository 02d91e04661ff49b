"""Shared by all HTML pages: the style sheet, and templates that escape untrusted text."""
