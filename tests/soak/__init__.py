"""Long and random: the chaos run and the fuzzer."""
