# No memory is used wrongly, and none is lost with each migration.
use strict;
use warnings;

use File::Temp ();
use Test::More;

use SwitchoverTest::Extent;
use SwitchoverTest::Loop;
use SwitchoverTest::Pair;
use SwitchoverTest::QEMU;
use SwitchoverTest::Ticks;

plan skip_all => 'needs valgrind' if !-x '/usr/bin/valgrind';

my @INCLUDE = map { /\A(.+)\z/s ? ('-I', $1) : () } @INC;
my ($PERL) = $^X =~ /\A(.+)\z/s;
my $SCRIPT = <<'SCRIPT';
use QEMU::Switchover::QMP;
for my $number (1 .. shift) {
    my $loop = QEMU::Switchover->new();
    my $migration = $loop->migration(source => '/nowhere/a', target => '/nowhere/b',
        uri => 'unix:/nowhere/ram', source_end => 'keep', name => "vm $number");
    $migration->start();
    $migration->run(60_000);
    my ($error, $numbers, @ledger) = ($migration->error(), $migration->numbers(), $migration->ledger());
    1 while $loop->next_event();
    eval { QEMU::Switchover::QMP->connect('/nowhere/qmp') };
    eval { $loop->migration(uri => "a\0b") };
    eval { local $SIG{ALRM} = sub { die "over\n" }; kill(ALRM => $$); $loop->dispatch(200) };
}
SCRIPT
my $MIGRATING_SCRIPT = <<'SCRIPT';
use QEMU::Switchover::QMP;
for my $folder (@ARGV) {
    my $loop = QEMU::Switchover->new();
    my $migration = $loop->migration(source => "$folder/source.qmp", target => "$folder/target.qmp",
        uri => "unix:$folder/ram", source_end => 'quit', journal => "$folder/journal");
    $migration->start();
    while ((my $news = $migration->run(60_000) // '') ne 'finished') {
        $migration->handed_over('done') if $news eq 'hand-over-wanted';
    }
    $migration->end() eq 'completed' or die $migration->summary(), "\n";
    my ($report, $numbers, @ledger) = ($migration->report(), $migration->numbers(), $migration->ledger());
    1 while $loop->next_event();
    my $qmp = QEMU::Switchover::QMP->connect("$folder/target.qmp");
    $qmp->execute('query-status')->{status} eq 'running' or die "it does not run\n";
    eval { $qmp->execute('no-such-command') };
}
SCRIPT

# Valgrind gives up at parts of what debuggers read in the library: it gets a copy without that.
my $folder = File::Temp->newdir();
sub copy_without_debug_information {
    require QEMU::Switchover;
    open(my $maps, '<', '/proc/self/maps') or die "/proc/self/maps: $!\n";
    my ($library) = map { m{ (/\S*/libswitchover\.so\.\S+)$} ? $1 : () } <$maps>;
    local %ENV = (PATH => '/usr/bin:/bin');
    system('objcopy', '--strip-debug', $library, "$folder/libswitchover.so.0") == 0
        or die "objcopy failed\n";
    return;
}

copy_without_debug_information();
%ENV = (LD_LIBRARY_PATH => "$folder", PATH => '/usr/bin:/bin', PERL_DESTRUCT_LEVEL => 2);

# What valgrind says of a run of the script.
sub report {
    my ($options, $script, @arguments) = @_;
    my $log = File::Temp->new();
    system('valgrind', '--leak-check=full', @$options, "--log-file=" . $log->filename(), $PERL, @INCLUDE, '-e',
        $script, @arguments) == 0 or die "valgrind failed\n";
    local $/;
    return scalar <$log>;
}

# The same of so many migrations between real QEMUs, there with a hand-over and to their end. Swift keeps the
# tag of an enumeration in the upper half of a byte, whose lower half belongs to no payload, and compares
# the whole byte with 16 times a number; that only the upper half decides is lost on valgrind.
sub report_of_migrating {
    my ($count) = @_;
    my $loop = SwitchoverTest::Loop->new();
    my @folders = map { File::Temp->newdir() } 1 .. $count;
    my @pairs = map { SwitchoverTest::Pair->start($loop, $_->dirname(), ticks_per_second => 50) } @folders;
    my $report = report(['--undef-value-errors=no'], $MIGRATING_SCRIPT, map { $_->dirname() } @folders);
    for my $pair (@pairs) {
        $pair->ticks('target')->wait_for(20);
        is(SwitchoverTest::Ticks::interruption(map { $pair->ticks($_) } qw(source target)), undef,
            'the guest counts on');
        $pair->stop();
    }
    return $report;
}

sub bytes {
    my ($report, $kind) = @_;
    my ($bytes) = $report =~ /\Q$kind\E: ([\d,]+) bytes/ or return;
    return $bytes =~ tr/,//dr;
}

sub compare {
    my ($what, $few, $many) = @_;
    for my $kind ('definitely lost', 'indirectly lost', 'possibly lost', 'still reachable') {
        is(bytes($many, $kind), bytes($few, $kind), "$what: none adds to what is $kind");
    }
    unlike($many, qr/^==\d+== (?:Invalid|Use of uninit|Conditional jump|Syscall param)/m,
        "$what: no memory is read or written wrongly");
    return;
}

compare('migrations that fail', map { report([], $SCRIPT, $_) } 5, 55);
compare('migrations of guests', map { report_of_migrating($_) } 1, 4) if SwitchoverTest::Extent::is_whole();

done_testing();
