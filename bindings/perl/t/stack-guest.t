# The test guest and a plain pair of QEMUs: what all the other measurements stand on.
use strict;
use warnings;

use File::Temp ();
use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use SwitchoverTest::Guest;
use SwitchoverTest::Loop;
use SwitchoverTest::Pair;
use SwitchoverTest::QEMU;
use SwitchoverTest::Ticks;

plan skip_all => 'needs qemu-system-x86_64' if !SwitchoverTest::QEMU::versions();

is(length(SwitchoverTest::Guest::boot_sector()), 512, 'the guest is one sector');

for my $version (SwitchoverTest::QEMU::versions()) {
    my $loop = SwitchoverTest::Loop->new();

    my $folder = File::Temp->newdir();
    my $pair = SwitchoverTest::Pair->start($loop, $folder->dirname(), version => $version);
    my $gap = $pair->migrate();
    diag(sprintf('guest gap, plain QEMU %s that starts by itself: %.1f ms', $version, $gap));
    is(SwitchoverTest::Ticks::interruption(map { $pair->ticks($_) } qw(source target)), undef,
        "QEMU $version: the count goes through the migration unbroken");
    $pair->stop();

    $folder = File::Temp->newdir();
    $pair = SwitchoverTest::Pair->start($loop, $folder->dirname(), version => $version,
        dirty_pages_per_tick => 4, dirty_bytes => 1024 ** 2);
    $pair->source->qmp('migrate-set-parameters', 'max-bandwidth' => 2 * 1024 ** 2);
    $pair->source->qmp('migrate', uri => "unix:$folder/ram");
    my $ram;
    $loop->run_until(60, 'the fifth pass over dirty memory', sub {
        $ram = $pair->source->qmp('query-migrate')->{ram};
        return $ram && $ram->{'dirty-sync-count'} >= 5;
    });
    cmp_ok($ram->{remaining}, '>', 0, "QEMU $version: a dirtying guest leaves work to do");
    $pair->source->qmp('migrate-set-parameters', 'max-bandwidth' => 1024 ** 3);
    $pair->ticks('target')->wait_for(200);
    is(SwitchoverTest::Ticks::interruption(map { $pair->ticks($_) } qw(source target)), undef,
        "QEMU $version: the count goes through many passes unbroken");
    $pair->stop();
}

done_testing();
