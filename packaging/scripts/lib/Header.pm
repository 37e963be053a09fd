# What include/switchover.h says, for the scripts that make manual pages, keep the binary interface
# and compare both with what is built.
package Header;

use strict;
use warnings;

# Reads a header. The result has, in the order of the file:
#   functions  [{ name, prototype, comment, section }]
#   enums      [{ name, comment, values => [{ name, value, comment }] }]
#   types      [name]        the opaque handles
#   preamble   text          the rules at the head of the file
#   version    "0.1.0"
sub read {
    my ($path) = @_;
    open my $file, '<', $path or die "$path: $!\n";
    my $text = do { local $/; <$file> };
    my $header = { functions => [], enums => [], types => [] };
    $header->{version} =
        join '.', map { $text =~ /^#define SWO_VERSION_$_ (\d+)$/m ? $1 : die "$path: no $_\n" }
        qw(MAJOR MINOR PATCH);
    ($header->{preamble}) = $text =~ m{\A(/\*.*?\*/)}s;
    $header->{preamble} = plain($header->{preamble} // '');
    my ($section, $comment) = ('', '');
    pos($text) = index($text, 'extern "C" {');
    while (pos($text) < length $text) {
        if ($text =~ m{\G\s*?\n[ \t]*\n}gc) { $comment = '' }
        elsif ($text =~ m{\G\s+}gc) { }
        elsif ($text =~ m{\G/\* -+ (.*?) -+ \*/}gc) { ($section, $comment) = ($1, '') }
        elsif ($text =~ m{\G(/\*.*?\*/)}gcs) { $comment = plain($1) }
        elsif ($text =~ m{\Gtypedef struct (\w+) \1;[^\n]*}gc) { push @{ $header->{types} }, $1 }
        elsif ($text =~ m{\Gtypedef SWO_ENUM\((\w+)\) \{(.*?)\} \1;}gcs) {
            push @{ $header->{enums} }, { name => $1, comment => $comment, values => values_of($2) };
            $comment = '';
        }
        elsif ($text =~ m{\G((?:const )?\w+\s+\**)(swo_\w+)(\([^;]*\));(?:[ \t]*(/\*.*?\*/))?}gc) {
            my ($result, $name, $arguments, $trailing) = ($1, $2, $3, $4);
            my $prototype = "$result$name$arguments";
            $prototype =~ s/\s+/ /g;
            $prototype =~ s/\( /(/g;
            push @{ $header->{functions} }, {
                name => $name, prototype => $prototype, section => $section,
                comment => $comment || plain($trailing // ''),
            };
        }
        elsif ($text =~ m{\G(?:#|extern|\}|typedef)[^\n]*}gc) { }
        else {
            my $line = 1 + (substr($text, 0, pos $text) =~ tr/\n//);
            die "$path:$line: a declaration of an unknown form\n";
        }
    }
    return $header;
}

# A comment's text without its marks. Lines stay lines.
sub plain {
    my ($comment) = @_;
    $comment =~ s{\A/\*+[ \t]*}{};
    $comment =~ s{\s*\*/\z}{};
    $comment =~ s{^[ \t]*\*(?: |$)}{}gm;
    $comment =~ s{\A\s+}{};
    return $comment;
}

sub values_of {
    my ($body) = @_;
    my @values;
    while ($body =~ m{(SWO_\w+) = (-?\d+),?[ \t]*(/\*.*?\*/)?}gs) {
        push @values, { name => $1, value => $2, comment => defined $3 ? plain($3) : '' };
    }
    return \@values;
}

1;
