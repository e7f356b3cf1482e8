//! usrsctp, through a small C program that is built on first use: packets and messages go in and
//! out on its standard input and output.
