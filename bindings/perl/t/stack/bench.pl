#!/usr/bin/perl
# Measures the guest's gap inside the stack, without and with a drop-in, in one run.
#
# bench.pl [--rounds N] [--cases idle,disk,dirty,loading] [--versions 7.2,10.0] [--drop-in BLIB] [--with 'PERL OPTIONS' …]
#
# --drop-in adds two variants: the built module in this folder, with the default hand-over and with
# after-resume. Each --with names one more: options for the perl of the stack on the source node. The
# rounds of all variants and versions of QEMU are interleaved, so that a busy machine is busy for all of
# them, and the floor (plain QEMU, started by itself at the target) is measured between them. The case
# `loading` (with --drop-in) is the time that a perl takes to load the module, beside two that a Perl stack
# has loaded anyway. A row is the median and the range in ms.
use strict;
use warnings;

use Cwd ();
use File::Temp ();
use FindBin;
use Getopt::Long ();

use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib";
use SwitchoverTest::Cluster;
use SwitchoverTest::Pair;
use SwitchoverTest::Ticks;

my ($rounds, $cases, $versions, $drop_in, @with) = (5, 'idle,disk,dirty', join(',', SwitchoverTest::QEMU::versions()));
Getopt::Long::GetOptions('rounds=i' => \$rounds, 'cases=s' => \$cases, 'versions=s' => \$versions,
    'drop-in=s' => \$drop_in, 'with=s' => \@with) or die "wrong options\n";
my $reason = SwitchoverTest::Cluster::unavailable();
die "no cluster here: $reason\n" if $reason;
my @versions = split /,/, $versions;
SwitchoverTest::QEMU::binary($_) or die "QEMU $_ is not installed\n" for @versions;

my %CASES = (
    idle => {},
    disk => { disk_bytes => 64 * 1024 ** 2 },
    loading => {},
    dirty => { dirty_pages_per_tick => 1, dirty_bytes => 16 * 1024 ** 2,
        config => { migrate_speed => 8 } },
);
my @cases = split /,/, $cases;
$CASES{$_} or die "no case '$_'\n" for @cases;

my @variants = ({ name => 'stack', options => [] },
    map { { name => "with $_", options => [split] } } @with);
if (defined $drop_in) {
    my $blib = Cwd::realpath($drop_in) // die "there is no folder '$drop_in'\n";
    my @options = ("-I$blib/lib", "-I$blib/arch");
    my $module = 'QEMU::Switchover::QemuServer';
    push @variants, { name => 'drop-in', options => [@options, "-M$module"] },
        { name => 'drop-in, after-resume', options => [@options, "-M$module=hand_over,after-resume"] };
}
for my $variant (@variants) {
    $variant->{cluster} = SwitchoverTest::Cluster->new(perl_options => $variant->{options});
}

my %gaps;

sub median {
    my (@values) = sort { $a <=> $b } @_;
    my $middle = @values / 2;
    return @values % 2 ? $values[$middle] : ($values[$middle - 1] + $values[$middle]) / 2;
}

sub measure_floor {
    my ($version, $case) = @_;
    my $folder = File::Temp->newdir();
    my $pair = SwitchoverTest::Pair->start($variants[0]{cluster}->loop(), $folder->dirname(),
        version => $version);
    push @{ $gaps{"$version, $case"}{'plain QEMU'} }, $pair->migrate();
    $pair->stop();
    return;
}

sub measure_variant {
    my ($version, $case, $variant, $vmid) = @_;
    my $cluster = $variant->{cluster};
    my %vm = %{ $CASES{$case} };
    $vm{config} = { %{ $vm{config} // {} }, machine => 'pc-i440fx-10.0' } if $version eq '10.0';
    $cluster->start_vm($vmid, version => $version, %vm);
    my $task = $cluster->wait_for($cluster->start_migration($vmid));
    my $log = SwitchoverTest::Cluster::log_of($task);
    die "$variant->{name}: the migration failed:\n$log" if $task->{exit};
    my ($source, $target) = map { $cluster->ticks($vmid, $_) } qw(alpha beta);
    $target->wait_for(200);
    if (my $interruption = SwitchoverTest::Ticks::interruption($source, $target)) {
        die "$variant->{name}: the guest lost count: $interruption\n$log";
    }
    push @{ $gaps{"$version, $case"}{ $variant->{name} } }, $source->gap_milliseconds($target);
    $cluster->remove_vm($vmid);
    return;
}

sub measure_loading {
    die "loading needs --drop-in\n" if !defined $drop_in;
    my %code = (
        'perl alone' => '1', 'JSON, IO::Multiplex' => 'use JSON; use IO::Multiplex',
        'QEMU::Switchover' => 'use QEMU::Switchover; QEMU::Switchover->new()',
    );
    for my $name (sort keys %code) {
        for (1 .. 20) {
            my $begin = $variants[0]{cluster}->loop()->now();
            system($^X, "-I$drop_in/lib", "-I$drop_in/arch", '-e', $code{$name}) == 0 or die "$name failed\n";
            push @{ $gaps{loading}{$name} }, ($variants[0]{cluster}->loop()->now() - $begin) * 1000;
        }
    }
    return;
}

my $vmid = 100;
for my $round (1 .. $rounds) {
    for my $case (@cases) {
        if ($case eq 'loading') {
            measure_loading();
            next;
        }
        for my $version (@versions) {
            measure_floor($version, $case) if $case eq 'idle';
            measure_variant($version, $case, $_, $vmid++) for @variants;
        }
    }
    print STDERR "round $round of $rounds done\n";
}

printf "guest gap, or time to load, in ms, %d rounds: median (range)\n", $rounds;
for my $case (map { my $case = $_; $case eq 'loading' ? $case : map { "$_, $case" } @versions } @cases) {
    for my $name ('plain QEMU', (map { $_->{name} } @variants),
        'perl alone', 'JSON, IO::Multiplex', 'QEMU::Switchover')
    {
        my @values = sort { $a <=> $b } @{ $gaps{$case}{$name} // next };
        printf "%-12s %-40s %8.1f (%.1f-%.1f)\n", $case, $name, median(@values), @values[0, -1];
    }
}
