"""Which settings of inference suit this device, by measurement (`auscult tune`)."""
