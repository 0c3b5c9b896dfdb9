"""The surfaces of a Magma gateway, magma.lte and magma.orc8r, translated to and from calls of the application."""
