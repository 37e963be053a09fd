#!/usr/bin/perl
# The header, the linker's map, the history of the interface, Debian's symbols file, the manual pages
# and the built library and program tell of the same things. bindings/perl/t/api.t does the same for
# the Perl module and its documentation.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use JSON::PP ();
use Test::More;

my $checkout;
BEGIN { $checkout = abs_path(dirname(__FILE__) . '/../..') }
use lib "$checkout/packaging/scripts/lib";
use Header;

my $out = "$checkout/.build-release/out";
my $header = Header::read("$checkout/include/switchover.h");
my @functions = sort map { $_->{name} } @{ $header->{functions} };
my ($release) = $header->{version} =~ /\A(\d+\.\d+)/;
$ENV{LD_LIBRARY_PATH} = "$out/lib";

sub content {
    my ($path) = @_;
    open my $file, '<', $path or die "$path: $!\n";
    local $/;
    return scalar <$file>;
}

sub output {
    open my $pipe, '-|', @_ or die "@_: $!\n";
    my $text = do { local $/; <$pipe> } // '';
    close $pipe;
    return $text;
}

# A page without its marks, every paragraph in one line.
sub plain {
    my $text = content($_[0]);
    $text =~ s/\\-/-/g;
    $text =~ s/\\\(aq/'/g;
    $text =~ s/\\f[BPIR]//g;
    1 while $text =~ s/^([^.\n][^\n]*)\n(?=[^.\n])/$1 /mg;
    return $text;
}

subtest 'the header is understood whole' => sub {
    (my $code = content("$checkout/include/switchover.h")) =~ s{/\*.*?\*/}{}gs;
    my %declared = map { $_ => 1 } $code =~ /\b(swo_\w+)\s*\(/g;
    is_deeply([sort keys %declared], \@functions, 'functions');
    my %constants = map { $_ => 1 } $code =~ /\b(SWO_\w+) = /g;
    is_deeply([sort keys %constants],
        [sort map { map { $_->{name} } @{ $_->{values} } } @{ $header->{enums} }], 'constants');
    for my $function (@{ $header->{functions} }) {
        like($function->{comment}, qr/\S/, "$function->{name} is explained");
    }
};

subtest 'the interface is the recorded one' => sub {
    my $text = output("$checkout/packaging/scripts/abi-check", "$out/lib/libswitchover.so.0");
    is($?, 0, 'abi-check') or diag($text);
};

subtest 'Debian\'s symbols file has each function with its node' => sub {
    my %node;
    my $node;
    for my $line (split /\n/, content("$checkout/packaging/libswitchover.map")) {
        $node = $1 if $line =~ /^(SWITCHOVER_[\d.]+) \{/;
        $node{$1} = $node if $line =~ /^\s+(swo_\w+);/;
    }
    my @symbols = content("$checkout/packaging/debian/libswitchover0.symbols") =~ /^ (swo_\w+\@\S+) /gm;
    is_deeply(\@symbols, [map { "$_\@$node{$_}" } sort keys %node]);
    is_deeply([sort keys %node], \@functions);
};

subtest 'each function has a manual page' => sub {
    my @pages = sort map { m{([^/]+)\.3\z} } glob "$out/man/man3/*.3";
    is_deeply(\@pages, ['libswitchover', @functions]);
    my $overview = content("$out/man/man3/libswitchover.3");
    like($overview, qr/^\.(?:BR|B) \Q$_\E /m, "the overview names $_") for @functions;
    my %known = map { $_ => 1 } @functions, map { $_->{name} } @{ $header->{enums} };
    $known{$_} = 1 for @{ $header->{types} };
    for my $word ($overview =~ /\b(swo_\w+)\b/g) {
        fail("the overview knows $word, which is not in the header") unless $known{$word};
    }
    my %constants = map { map { $_->{name} => 1 } @{ $_->{values} } } @{ $header->{enums} };
    for my $word ($overview =~ /\b(SWO_[A-Z_]*[A-Z])\b/g) {
        ok($constants{$word} || $word =~ /\ASWO_(?:E|VERSION)\z/, "the header has $word");
    }
};

subtest 'the command\'s manual page has every command and option' => sub {
    my $program = "$out/bin/switchover";
    my $page = content("$out/man/man1/switchover.1");
    $page =~ s/\\-/-/g;
    $page =~ s/\\f[BPI]//g;
    my ($list) = output($program, '--help') =~ /^SUBCOMMANDS:\n(.*?)\n\n/ms;
    my @commands = $list =~ /^  (\w[\w-]*)/gm;
    cmp_ok(scalar @commands, '>', 3, 'commands');
    for my $command (@commands) {
        like($page, qr/^\.SH "COMMAND \U$command"$/m, $command);
        my ($part) = $page =~ /^\.SH "COMMAND \U$command"$(.*?)(?=^\.SH )/ms;
        for my $option (output($program, $command, '--help') =~ /^  (?:-\w, )?(--[\w-]+)/gm) {
            like($part, qr/^(?:-\w, )?\Q$option\E\b/m, "$command $option");
        }
    }
};

subtest 'the manual page for the bad night has every answer and option of recovery' => sub {
    my $program = "$out/bin/switchover";
    my $page = plain("$out/man/man8/switchover-recover.8");
    my @rows = map { JSON::PP::decode_json($_) } split /\n/, output($program, qw(recover --table --json));
    cmp_ok(scalar @rows, '>', 30, 'rows of the table');
    for my $row (@rows) {
        for my $text (@{$row}{qw(meaning to_do)}) {
            like($page, qr/\Q$text\E/, "$row->{rule}: $text") if $text ne '';
        }
        like($page, qr/\Q$_\E/, "$row->{rule}: $_") for split /, /, $row->{words};
    }
    my %is_of_the_page = map { $_ => 1 }
        output($program, qw(recover --help)) =~ /^  (?:-\w, )?(--[\w-]+)/gm;
    for my $option ($page =~ /(?<![\w-])(--[a-z][\w-]*)/g) {
        fail("recover has no option $option") unless $is_of_the_page{$option};
    }
};

# The messages that the page explains by hand are those of the sources.
subtest 'the messages that the manual pages explain are said' => sub {
    my $said = join ' ', map { content($_) } glob "$checkout/Sources/{MigrationEngine,MigrationSession,Runtime}/*.swift";
    $said =~ s/"\s*\n\s*\+ "//g;
    my ($kinds, $ends) = (plain("$checkout/packaging/man/switchover-recover.8.in")) x 2;
    ($kinds) = $kinds =~ /^What it says of a side:\n(.*?)^\.SH /ms;
    ($ends) = $ends =~ /^\.SH "WHAT A MIGRATION SAYS AT ITS END"\n(.*?)^\.SH /ms;
    my @messages = "$kinds$ends" =~ /^\.TP\n\.B ([^"\n]+)$/mg;
    cmp_ok(scalar @messages, '>', 12, 'messages');
    like($said, qr/\Q$_\E/, $_) for @messages;
};

subtest 'the manual pages are well-formed' => sub {
    for my $page (glob "$out/man/man[138]/*") {
        is(output('sh', '-c', 'groff -man -Tutf8 -ww -z "$1" 2>&1', 'sh', $page), '', $page);
    }
};

subtest 'the version is one' => sub {
    is(output("$out/bin/switchover", '--version'), "switchover $header->{version}\n");
    like(content("$checkout/packaging/debian/changelog"), qr/\Alibswitchover \(\Q$header->{version}\E-\d/);
    ok(-e "$out/lib/libswitchover.so.$header->{version}", 'the file of the library');
};

subtest 'the dependencies are few, and the library small' => sub {
    my %allowed = map { $_ => 1 }
        qw(libc libm libgcc_s libstdc++ libjson-c libssh2 ld-linux-x86-64 ld-linux-aarch64);
    my $dynamic = output('readelf', '--wide', '--dynamic', "$out/lib/libswitchover.so.0");
    for my $needed ($dynamic =~ /\(NEEDED\).*\[(.*)\]/g) {
        ok($allowed{ $needed =~ s/\.so.*//r }, $needed);
    }
    unlike($dynamic, qr/\((?:RPATH|RUNPATH|TEXTREL)\)/, 'no path of the building machine');
    my $directory = tempdir(CLEANUP => 1);
    is(system('strip', '--strip-unneeded', '-o', "$directory/stripped", "$out/lib/libswitchover.so.0"), 0, 'strip');
    cmp_ok(-s "$directory/stripped", '<=', 10 << 20, 'at most 10 MiB');
};

done_testing;
