<?php
// Decodes each line of standard input, a form body in hex, and prints what parse_str makes of it:
// an array is a JSON list of [key, value] in its order, a key or a string is in hex.
function shown($value)
{
    if (!is_array($value)) {
        return bin2hex($value);
    }
    $pairs = [];
    foreach ($value as $key => $inner) {
        $pairs[] = [bin2hex((string) $key), shown($inner)];
    }
    return $pairs;
}
while (($line = fgets(STDIN)) !== false) {
    parse_str(hex2bin(rtrim($line)), $decoded);
    echo json_encode(shown($decoded)), "\n";
}
