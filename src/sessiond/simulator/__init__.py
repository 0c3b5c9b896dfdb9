"""The rest of a gateway, played on the real wire: policy side, data plane, access, bystanders; none of the daemon."""
