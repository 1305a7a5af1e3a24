"""The tocsin command."""
