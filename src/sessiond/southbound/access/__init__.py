"""The access side, MME or AAA: bearers, terminations, and which subscribers are attached."""
