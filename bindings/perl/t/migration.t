# Whole migrations between real QEMUs.
use strict;
use warnings;

use File::Temp ();
use Test::More;

use QEMU::Switchover;
use QEMU::Switchover::QMP;
use SwitchoverTest::Loop;
use SwitchoverTest::Pair;
use SwitchoverTest::QEMU;
use SwitchoverTest::Ticks;

plan skip_all => 'needs qemu-system-x86_64' if !SwitchoverTest::QEMU::versions();

my $ticking = SwitchoverTest::Loop->new();

sub with_pair {
    my ($name, $options, $code) = @_;
    subtest $name => sub {
        my $folder = File::Temp->newdir();
        my $pair = SwitchoverTest::Pair->start($ticking, $folder->dirname(),
            ticks_per_second => 50, %$options);
        my %monitors = (
            source => "$folder/source.qmp", target => "$folder/target.qmp",
            uri => "unix:$folder/ram", source_end => 'keep',
        );
        $code->($pair, \%monitors, $folder);
        $pair->stop();
    };
    return;
}

# The guest's count goes on at the target, whatever else happened.
sub is_unbroken {
    my ($pair) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $pair->ticks('target')->wait_for(20);
    my $interruption = SwitchoverTest::Ticks::interruption(map { $pair->ticks($_) } qw(source target));
    return is($interruption, undef, 'the guest counts on without a break');
}

for my $version (SwitchoverTest::QEMU::versions()) {
    with_pair("QEMU $version: no cluster", { version => $version }, sub {
        my ($pair, $monitors) = @_;
        my $loop = QEMU::Switchover->new();
        my $migration = $loop->migration(%$monitors, hand_over => 'none', source_end => 'quit',
            name => 'vm 7', capabilities => { xbzrle => 1 },
            parameters => { 'xbzrle-cache-size' => 1 << 26 });
        $migration->start();
        is($migration->run(60_000), 'finished', 'it ends');
        is($migration->end(), 'completed', 'completed');
        is($migration->error(), undef, 'without an error');
        is($migration->owner(), 'target', 'the target owns the guest');
        is($migration->guest(), 'running', 'which runs');
        like($migration->summary(), qr/vm 7: completed; blackout/, 'the summary says so');
        is_unbroken($pair);
        my $numbers = $migration->numbers();
        cmp_ok($numbers->{blackout_us}, '>', 0, 'the blackout is known');
        is($numbers->{blackout_us}, $migration->number('blackout_us'), 'one by one too');
        my @ledger = $migration->ledger();
        my $sum = 0;
        $sum += $_->{length_us} for @ledger;
        is($sum, $numbers->{blackout_us}, 'the ledger adds up to it');
        my @events = map { $loop->next_event() // () } 1 .. 100;
        my @phases = map { $_->{phase} // () } @events;
        is("@phases", 'connecting preflight preparing transferring switching-over activating'
            . ' finishing ended', 'events tell the phases');
        is($events[-1]{kind}, 'finished', 'and the end');
        is($events[-1]{migration}, $migration, 'of this migration');
    });

    with_pair("QEMU $version: one local disk", { version => $version, disk_bytes => 1 << 24 }, sub {
        my ($pair, $monitors, $folder) = @_;
        $pair->target->qmp('nbd-server-start',
            addr => { type => 'unix', data => { path => "$folder/nbd" } });
        $pair->target->qmp('block-export-add', id => 'e', type => 'nbd', 'node-name' => 'disk',
            name => 'disk', writable => JSON::true);
        my $loop = QEMU::Switchover->new();
        my $migration = $loop->migration(%$monitors, hand_over => 'none', nbd => "unix:$folder/nbd",
            disks => [{ device => 'disk', export => 'disk' }]);
        $migration->start();
        is($migration->run(60_000), 'finished', 'it ends');
        is($migration->end(), 'completed', 'completed') or diag($migration->summary());
        my ($disk) = $migration->disks();
        is($disk->{device}, 'disk', 'the disk is known by its name');
        ok(defined $disk->{done_bytes} && defined $disk->{total_bytes}, 'and by its progress');
        is_unbroken($pair);
        is_deeply($pair->source->qmp('query-block-jobs'), [], 'no mirror is left at the source');
    });
}

with_pair('the config moves, then the guest runs', {}, sub {
    my ($pair, $monitors) = @_;
    my $migration = QEMU::Switchover->new()->migration(%$monitors);
    $migration->start();
    is($migration->run(60_000), 'hand-over-wanted', 'a hand-over is wanted');
    is($migration->phase(), 'handing-over', 'in its phase');
    ok($pair->ticks('target')->never_ran($pair->ticks('source')), 'before the guest runs at the target');
    $migration->handed_over('done');
    is($migration->run(60_000), 'finished', 'then it ends');
    is($migration->end(), 'completed', 'completed');
    is_unbroken($pair);
});

with_pair('the host program resumes', {}, sub {
    my ($pair, $monitors) = @_;
    delete $monitors->{source_end};
    my $migration = QEMU::Switchover->new()->migration(%$monitors, hand_over => 'external');
    $migration->start();
    is($migration->run(60_000), 'hand-over-wanted', 'the target has loaded');
    is($migration->owner(), 'nobody', 'nobody owns the guest');
    $pair->target->qmp('cont');
    is($migration->run(60_000), 'finished', 'it ends when the guest runs');
    is($migration->owner(), 'target', 'at the target');
    is_unbroken($pair);
});

with_pair('a cancel while memory moves', { dirty_pages_per_tick => 80 }, sub {
    my ($pair, $monitors) = @_;
    my $migration = QEMU::Switchover->new()->migration(%$monitors, bandwidth => 1 << 20);
    $migration->start();
    is($migration->run(200), undef, 'a time that passes is no end')
        while $migration->phase() ne 'transferring';
    ok($migration->cancel(), 'it can be cancelled');
    is($migration->run(60_000), 'finished', 'it ends');
    is($migration->end(), 'cancelled', 'cancelled');
    is($migration->error()->code(), 'cancelled', 'with an error that says so');
    is($migration->error()->owner(), 'source', 'the source owns the guest');
    $pair->ticks('source')->wait_for(20);
    is(SwitchoverTest::Ticks::interruption($pair->ticks('source')), undef, 'which never stood');
});

with_pair('a cancel that comes too late', {}, sub {
    my ($pair, $monitors) = @_;
    my $migration = QEMU::Switchover->new()->migration(%$monitors);
    $migration->start();
    $migration->run(60_000);
    is($migration->cancel(), 0, 'is answered so');
    $migration->handed_over('done');
    $migration->run(60_000);
    is($migration->end(), 'completed', 'and changes nothing');
});

with_pair('a check', {}, sub {
    my ($pair, $monitors) = @_;
    my $migration = QEMU::Switchover->new()->migration(%$monitors);
    $migration->check();
    is($migration->run(60_000), 'finished', 'it ends');
    is($migration->end(), 'completed', 'completed');
    is($pair->source->qmp('query-status')->{status}, 'running', 'the guest runs where it was');
    $pair->ticks('source')->wait_for(20);
    ok($pair->ticks('target')->never_ran($pair->ticks('source')), 'and nowhere else');
});

with_pair('a hand-over that failed', {}, sub {
    my ($pair, $monitors) = @_;
    my $migration = QEMU::Switchover->new()->migration(%$monitors);
    $migration->start();
    $migration->run(60_000);
    $migration->handed_over('failed');
    is($migration->run(60_000), 'finished', 'it ends');
    is($migration->end(), 'failed', 'failed');
    is($migration->error()->failure(), 'hand-over', 'for that reason');
    is($migration->owner(), 'source', 'the source has the guest back') or diag($migration->summary());
    $pair->ticks('source')->wait_for(20);
    is(SwitchoverTest::Ticks::interruption($pair->ticks('source')), undef, 'where it runs on');
});

with_pair('two migrations in one loop', {}, sub {
    my ($pair, $monitors) = @_;
    my $other_folder = File::Temp->newdir();
    my $other = SwitchoverTest::Pair->start($ticking, $other_folder->dirname(),
        ticks_per_second => 50);
    my $loop = QEMU::Switchover->new();
    my @migrations = (
        $loop->migration(%$monitors, hand_over => 'none'),
        $loop->migration(source => "$other_folder/source.qmp", target => "$other_folder/target.qmp",
            uri => "unix:$other_folder/ram", source_end => 'keep', hand_over => 'none'),
    );
    $_->start() for @migrations;
    my %ended;
    while (keys %ended < 2) {
        last if !$loop->dispatch(60_000);
        while (my $event = $loop->next_event()) {
            $ended{ $event->{migration} } = 1 if $event->{kind} eq 'finished';
        }
    }
    is($_->end(), 'completed', 'completed') for @migrations;
    is_unbroken($_) for $pair, $other;
    $other->stop();
});

done_testing();
