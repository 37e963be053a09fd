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

%ENV = (PATH => '/usr/bin:/bin', PERL_DESTRUCT_LEVEL => 2);

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
