"""`bench check` tests the contracts of plug-ins; `bench doctor` examines an installation; `bench prepare` decodes."""
