# The drop-in inside the stack: the same log, a fraction of the blackout. Each migration with it is
# compared with one without it in the same run.
use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use SwitchoverTest::Cluster;
use SwitchoverTest::Extent;
use SwitchoverTest::StackChecks;

if (my $reason = SwitchoverTest::Cluster::unavailable()) {
    plan skip_all => $reason;
}

my $DISK_BYTES = 64 * 1024 ** 2;
my %STACK = (
    without => SwitchoverTest::Cluster->new(),
    with => SwitchoverTest::Cluster->new(drop_in => {}),
);
my $vmid = 100;

# What the stack says by itself, whatever the figures are.
sub words_of_stack {
    my (@messages) = @_;
    @messages = grep { !/\A(?:WARN: |ERROR: )?switchover: |\Aworker / } @messages;
    # How many of these there are is a matter of speed.
    @messages = grep { !/\Amigration active, |\Axbzrle: |\Amigration in status |\Aauto-increased / }
        @messages;
    return [map { s/\d[\d.]*( [KMGT]?i?B)?/N/gr } @messages];
}

# One migration; its log and the guest's gap.
sub migrate {
    my ($name, $what, %vm) = @_;
    my $cluster = $STACK{$name};
    $cluster->start_vm($vmid, %vm);
    my $disk = $cluster->path('alpha', "stack/images/$vmid/vm-$vmid-disk-0.raw");
    link($disk, "$disk.original") if -e $disk;
    my $task = $cluster->wait_for($cluster->start_migration($vmid));
    my @messages = SwitchoverTest::Cluster::messages_of($task);
    is($task->{exit}, 0, "$what, $name: the task succeeds") or diag(map { "$_\n" } @messages);
    guest_moved($cluster, $vmid);
    my $copy = $cluster->path('beta', "stack/images/$vmid/vm-$vmid-disk-0.raw");
    is(system('cmp', '-s', "$disk.original", $copy), 0, "$what, $name: the disk arrived whole")
        if -e "$disk.original";
    my $gap = gap_of($cluster, $vmid, "$what, $name");
    return ($gap, @messages);
}

# The same VM without and with it; what differs is the gap, and our own lines.
sub compare {
    my ($what, $check, %vm) = @_;
    my ($gap_without, @without) = migrate('without', $what, %vm);
    my ($gap_with, @with) = migrate('with', $what, %vm);
    is_deeply(words_of_stack(@with), words_of_stack(@without), "$what: the stack's own log is the same");
    ok(log_in_order(\@with, qr/\Astart migrate command to /, qr/\Amigration status: completed\z/,
        qr/\Aswitchover: vm $vmid: completed; owner: target, guest running\z/,
        qr/\Aswitchover: ledger: last RAM and device state [\d.]+ ms, .*at most\z/), "$what: and then ours");
    unlike("@with", qr/stepping aside/, "$what: the drop-in did it");
    $check->($gap_with, $gap_without);
    my $journal = $STACK{with}->folder() . "/alpha/lib/switchover/vm_$vmid.journal";
    ok(-s $journal, "$what: there is a journal");
    is((stat $journal)[2] & 07777, 0600, "$what: for root alone");
    is_deeply([glob($STACK{with}->path('alpha', 'switchover/*'))], [], "$what: no forward is left");
    $STACK{$_}->remove_vm($vmid) for sort keys %STACK;
    $vmid++;
    return;
}

for my $version (SwitchoverTest::QEMU::versions()) {
    my %vm = (version => $version);
    $vm{config}{machine} = 'pc-i440fx-10.0' if $version eq '10.0';

    compare("QEMU $version, idle", sub {
        my ($with, $without) = @_;
        cmp_ok($with, '<', $without / 2, "QEMU $version, idle: less than half the gap");
    }, %vm) if SwitchoverTest::Extent::is_whole() || $version eq '7.2';

    compare("QEMU $version, one disk", sub {
        my ($with, $without) = @_;
        cmp_ok($with, '<', $without / 4, "QEMU $version, one disk: less than a quarter of the gap");
    }, %vm, disk_bytes => $DISK_BYTES) if SwitchoverTest::Extent::is_whole() || $version ne '7.2';
}

# 16 MiB walked through at 4 MiB/s, over 8 MiB/s.
compare('dirtying', sub { }, dirty_pages_per_tick => 1, dirty_bytes => 16 * 1024 ** 2,
    config => { migrate_speed => 8 }) if SwitchoverTest::Extent::is_whole();

subtest 'the ramp of the downtime limit is the stack\'s own' => sub {
    my $cluster = $STACK{with};
    # 2 MiB walked through 25 times a second over 4 MiB/s: without the ramp it would never end. The guest ticks
    # slowly, as it dirties nothing while nobody reads what it writes, which happens on a busy machine.
    $cluster->start_vm($vmid, ticks_per_second => 100, dirty_pages_per_tick => 128, dirty_bytes => 2 * 1024 ** 2,
        config => { migrate_speed => 4 });
    my $task = $cluster->start_migration($vmid);
    $cluster->wait_for($task);
    my @messages = SwitchoverTest::Cluster::messages_of($task);
    is($task->{exit}, 0, 'the task succeeds') or diag(map { "$_\n" } @messages);
    my @limits = map { /\Aauto-increased downtime to continue migration: (\d+) ms\z/ ? $1 : () } @messages;
    cmp_ok(scalar @limits, '>', 0, 'with a limit that was raised') or diag(map { "$_\n" } @messages);
    is_deeply(\@limits, [map { 100 * 2 ** $_ } 1 .. @limits], 'and doubled each time');
    my $active = grep { /\Amigration active, transferred [\d.]+ [KM]iB of [\d.]+ MiB VM-state, / } @messages;
    cmp_ok($active, '>=', 6 * @limits, 'after more than five reports without progress each');
    guest_moved($cluster, $vmid);
    $cluster->remove_vm($vmid);
};

done_testing();
