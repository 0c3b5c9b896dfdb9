"""Code generated from proto/ by scripts/gen_proto; never edited."""
