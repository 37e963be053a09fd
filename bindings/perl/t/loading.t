# What loading costs a process, beside what a Perl stack has loaded anyway.
use strict;
use warnings;

use Test::More;

my @INCLUDE = map { /\A(.+)\z/s ? ('-I', $1) : () } @INC;
my ($PERL) = $^X =~ /\A(.+)\z/s;
my $HIGHEST_GROWTH_KIB = 8 * 1024;
my $SETTLED = 'open(my $f, "<", "/proc/self/smaps_rollup") or die;'
    . 'my ($size) = join("", <$f>) =~ /^Rss: +(\d+)/m; print $size;';

$ENV{PATH} = '/usr/bin:/bin';
delete @ENV{qw(IFS CDPATH ENV BASH_ENV)};

# The resident KiB of a perl that has run this.
sub resident {
    my ($code) = @_;
    open(my $output, '-|', $PERL, @INCLUDE, '-e', "$code; $SETTLED") or die "can't run perl: $!\n";
    my $size = <$output>;
    close($output) or die "perl failed\n";
    return $size;
}

my $plain = resident('1');
my $loaded = resident('use QEMU::Switchover; my $loop = QEMU::Switchover->new()');
my $others = resident(join(';', map { "eval { require $_ }" } qw(JSON IO::Multiplex)));
diag("perl has $plain KiB, with the module $loaded KiB, with JSON and IO::Multiplex $others KiB");
cmp_ok($loaded - $plain, '<=', $HIGHEST_GROWTH_KIB, 'the module takes 8 MiB at most');

my $whole = resident('require QEMU::Switchover::QemuServer::Run; require QEMU::Switchover::Migration');
diag("with what the drop-in needs, $whole KiB");

my $threads = resident('use QEMU::Switchover; my $loop = QEMU::Switchover->new();'
    . 'opendir(my $tasks, "/proc/self/task"); my @all = grep { /\d/ } readdir($tasks);'
    . 'die "threads\n" if @all != 1');
ok($threads, 'it starts no thread');

my $signals = 'open(my $f, "<", "/proc/self/status"); join("", grep { /^Sig(?:Cgt|Ign|Blk)/ } <$f>)';
resident("my \$before = do { $signals }; require QEMU::Switchover; my \$loop = QEMU::Switchover->new();"
    . "my \$after = do { $signals }; die qq(handlers\\n) if \$before ne \$after");
pass('and installs no signal handler');

done_testing();
