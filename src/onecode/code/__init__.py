"""Merchant and platform ids, the EMVCo payload of a code, and its QR image in and out. Layout: docs/spec/code.md."""
