# Objects end in any order, at any time, in any number.
use strict;
use warnings;

use Test::More;

use QEMU::Switchover;
use QEMU::Switchover::QMP;

my %NOWHERE = (source => '/nowhere/a', target => '/nowhere/b', uri => 'unix:/nowhere/ram',
    source_end => 'keep');

subtest 'a migration keeps its loop' => sub {
    my $migration = QEMU::Switchover->new()->migration(%NOWHERE);
    $migration->start();
    is($migration->run(20_000), 'finished', 'though nobody else does');
};

subtest 'a loop does not keep its migrations' => sub {
    my $loop = QEMU::Switchover->new();
    my $migration = $loop->migration(%NOWHERE);
    $migration->start();
    undef $migration;
    is_deeply($loop->{members}, {}, 'it forgets one that is dropped');
    is($loop->dispatch(100), 0, 'and hears no more of it');
};

subtest 'events outlive what they are about' => sub {
    my $loop = QEMU::Switchover->new();
    my $migration = $loop->migration(%NOWHERE);
    $migration->start();
    $migration->run(20_000);
    my $event = $loop->next_event();
    undef $migration;
    undef $loop;
    is($event->{migration}->end(), 'failed', 'and keep it alive');
};

subtest 'handles of the library end in any order' => sub {
    for my $order ([qw(loop migration qmp)], [qw(qmp migration loop)], [qw(migration loop qmp)]) {
        my %handles = (loop => QEMU::Switchover::C::loop_new());
        $handles{migration} = QEMU::Switchover::C::migration_new($handles{loop});
        $handles{qmp} = QEMU::Switchover::C::qmp_open($handles{loop}, '/nowhere/qmp', 0, 1000);
        delete $handles{$_} for @$order;
        pass("@$order");
    }
};

subtest 'a handle that outlives its loop' => sub {
    my $loop = QEMU::Switchover::C::loop_new();
    my $migration = QEMU::Switchover::C::migration_new($loop);
    undef $loop;
    my $answer = QEMU::Switchover::C::migration_start($migration);
    is(QEMU::Switchover::_word(E => $answer), 'closed', 'says that its loop is gone');
};

# At the end of a process everything goes, in the order of nobody's choice.
my @include = map { /\A(.+)\z/s ? ('-I', $1) : () } @INC;
$ENV{PATH} = '/usr/bin:/bin';
delete @ENV{qw(IFS CDPATH ENV BASH_ENV)};
my ($perl) = $^X =~ /\A(.+)\z/s;
my $script = '$| = 1; use QEMU::Switchover::QMP; our $loop = QEMU::Switchover->new();'
    . 'our $migration = $loop->migration(source => "/a", target => "/b", uri => "unix:/c",'
    . ' source_end => "keep"); $migration->start(); our $qmp = $loop->qmp("/d");'
    . 'our $circle = { of => $migration }; $circle->{self} = $circle; our @more = ($qmp, $loop);'
    . 'print "made\n"; %s';
for my $ending ('exit(0)', 'die "over\n"', '$SIG{TERM} = sub { exit(1) }; kill(TERM => $$); sleep(9)') {
    open(my $output, '-|', $perl, @include, '-we', 'open(STDERR, ">&STDOUT");' . sprintf($script, $ending))
        or die "can't run perl: $!\n";
    my $text = join('', <$output>);
    close($output);
    is($? & 127, 0, "global destruction after '$ending' kills nobody");
    is($text, $ending =~ /over/ ? "made\nover\n" : "made\n", 'nor says a word');
}

# Memory in KiB that this process has written to.
sub resident {
    open(my $file, '<', '/proc/self/smaps_rollup') or die "no /proc: $!\n";
    my ($size) = join('', <$file>) =~ /^Private_Dirty: +(\d+) kB$/m;
    return $size;
}

sub many {
    my ($count) = @_;
    for (1 .. $count) {
        my $loop = QEMU::Switchover->new();
        my $migration = $loop->migration(%NOWHERE, name => "vm $_", capabilities => { xbzrle => 1 });
        $migration->start();
        $migration->run(20_000);
        my $error = $migration->error();
        1 while $loop->next_event();
        eval { QEMU::Switchover::QMP->connect('/nowhere/qmp') };
        eval { $loop->migration(%NOWHERE, bandwidth => 'x') };
    }
    return;
}

subtest 'a thousand migrations' => sub {
    many(300);
    my $before = resident();
    many(1000);
    my $growth = resident() - $before;
    diag("1000 migrations more take $growth KiB more");
    cmp_ok($growth, '<', 512, 'leave nothing behind');
};

done_testing();
