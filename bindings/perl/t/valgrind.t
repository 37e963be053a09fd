# No memory is used wrongly, and none is lost with each migration.
use strict;
use warnings;

use File::Temp ();
use Test::More;

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

# What valgrind says of a run with so many migrations.
sub report {
    my ($count) = @_;
    my $log = File::Temp->new();
    system('valgrind', '--leak-check=full', "--log-file=" . $log->filename(), $PERL, @INCLUDE, '-e',
        $SCRIPT, $count) == 0 or die "valgrind failed\n";
    local $/;
    return scalar <$log>;
}

sub bytes {
    my ($report, $kind) = @_;
    my ($bytes) = $report =~ /\Q$kind\E: ([\d,]+) bytes/ or return;
    return $bytes =~ tr/,//dr;
}

my ($few, $many) = map { report($_) } 5, 55;
for my $kind ('definitely lost', 'indirectly lost', 'possibly lost', 'still reachable') {
    is(bytes($many, $kind), bytes($few, $kind), "no migration adds to what is $kind");
}
unlike($many, qr/^==\d+== (?:Invalid|Use of uninit|Conditional jump|Syscall param)/m,
    'no memory is read or written wrongly');

done_testing();
