"""What a thousand ranks and a billion samples need, measured on small machines: targets of decision 60."""
