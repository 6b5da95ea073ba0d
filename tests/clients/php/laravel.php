<?php
// Runs lines that are meant for an app of Laravel, given as a file, with Laravel's own HTTP client as Debian packages it.
declare(strict_types=1);

require "/usr/share/php/GuzzleHttp/autoload.php";
require "/usr/share/php/Illuminate/Support/autoload.php";
require "/usr/share/php/Illuminate/Http/autoload.php";

Illuminate\Support\Facades\Http::swap(new Illuminate\Http\Client\Factory());

require $argv[1];
