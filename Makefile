# forebay: one Makefile for everything.
#
#   make                         build/forebay
#   make DEVELOPER=1             more warnings, all errors; lock ranks checked
#   make SANITIZE=address,undefined | thread    into build/asan, build/tsan
#   make tests                   the test programs
#   make fuzzers                 tests/fuzz, by clang, into build/fuzz
#   make test | bench | soak | lint | format
#   make install [DESTDIR=] [PREFIX=/usr/local] [MOUNT_HELPER_DIR=]
#   make uninstall | clean
#
# A new file in a folder is built without being named here: everything but
# cli/main.c goes into libforebay.a, from which the program and the test
# programs are linked.

FOLDERS := base blob cache tier fs cli
PREFIX ?= /usr/local
# mount(8) looks for mount.forebay in /sbin alone (which is /usr/sbin today).
MOUNT_HELPER_DIR ?= $(if $(filter /usr/local,$(PREFIX)),/sbin,$(PREFIX)/sbin)
VERSION := $(shell cat VERSION)

ifeq ($(SANITIZE),)
BUILD ?= build
else ifneq ($(findstring thread,$(SANITIZE)),)
BUILD ?= build/tsan
else
BUILD ?= build/asan
endif

all: program
.PHONY: all program tests fuzzers fuzz-programs test bench soak lint format install uninstall clean

# ---- what the build needs ----

ifeq ($(origin CC),default)
CC := gcc
endif
AR ?= ar
PKG_CONFIG ?= pkg-config
FUSE_PREFIX ?= build/deps/prefix
# Relative, so that the tree may stand anywhere.  (An exported variable would
# not reach $(shell) before make 4.4.)
PC = PKG_CONFIG_PATH='$(FUSE_PREFIX)/lib/pkgconfig:$(PKG_CONFIG_PATH)' \
	$(PKG_CONFIG)

PACKAGES := fuse3 sqlite3 libcurl libcrypto liburing expat jansson
NO_DEPS_GOALS := test clean uninstall format
ifneq ($(filter-out $(NO_DEPS_GOALS),$(or $(MAKECMDGOALS),all)),)
MISSING := $(shell command -v $(CC) >/dev/null || echo $(CC); \
	if command -v $(PKG_CONFIG) >/dev/null; then \
		$(PC) --atleast-version=3.17 fuse3 || echo 'libfuse>=3.17'; \
		for p in $(filter-out fuse3,$(PACKAGES)); do \
			$(PC) --exists $$p || echo $$p; done; \
	else echo $(PKG_CONFIG); fi)
ifneq ($(MISSING),)
$(error missing: $(MISSING): run scripts/deps)
endif
PC_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PC) --cflags $(PACKAGES)))
PC_LIBS := $(shell $(PC) --libs $(PACKAGES))
# The newest API that this libfuse and our code both know.
FUSE_USE_VERSION := $(shell $(PC) --modversion fuse3 | \
	awk -F. '{ v = $$1 * 100 + $$2; print (v > 318 ? 318 : v) }')
endif

# ---- flags ----

CPPFLAGS_ALL := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
	-DFUSE_USE_VERSION=$(FUSE_USE_VERSION) \
	-DFOREBAY_VERSION='"$(VERSION)"' -I. $(PC_CFLAGS)
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wvla
CFLAGS ?= -O2 -g
CFLAGS_ALL := -std=gnu11 -fPIE -pthread $(WARNINGS)
LDFLAGS_ALL := -pie -pthread -Wl,--as-needed -Wl,-z,relro,-z,now

ifneq ($(DEVELOPER),)
CPPFLAGS_ALL += -DDEVELOPER
CFLAGS_ALL += -Werror -Wundef -Wwrite-strings -Wold-style-definition \
	-Wformat=2
# It changes from one gcc to the next, and takes an inlined `return -errno` for
# a possible success: shown, not fatal.
CFLAGS_ALL += -Wno-error=maybe-uninitialized
ifneq ($(shell $(CC) --version | grep -i 'free software'),)
CFLAGS_ALL += -Wlogical-op -Wduplicated-cond
endif
endif

ifeq ($(SANITIZE),)
CFLAGS_ALL += -fstack-protector-strong -fstack-clash-protection
ifneq ($(filter -O1 -O2 -O3 -Os,$(CFLAGS)),)
CPPFLAGS_ALL += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif
else
# glibc's checked functions would hide from the sanitizers what they look for.
CPPFLAGS_ALL += -U_FORTIFY_SOURCE
CFLAGS_ALL += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all \
	-fno-omit-frame-pointer
ifneq ($(shell $(CC) --version 2>/dev/null | grep -i 'free software'),)
CFLAGS_ALL += -Wno-maybe-uninitialized
endif
LDFLAGS_ALL += -fsanitize=$(SANITIZE)
endif

COMPILE = $(CC) $(CPPFLAGS_ALL) $(CPPFLAGS) $(CFLAGS_ALL) $(CFLAGS)
# Forbidden calls do not compile; tests may use them.
FORBID := -include base/forbidden.h
LINK = $(CC) $(CFLAGS_ALL) $(CFLAGS) $(LDFLAGS_ALL) $(LDFLAGS)

# ---- the program ----

SOURCES := $(sort $(wildcard $(FOLDERS:%=%/*.c)))
HEADERS := $(sort $(wildcard $(FOLDERS:%=%/*.h)))
OBJECTS := $(SOURCES:%.c=$(BUILD)/obj/%.o)
LIB := $(BUILD)/libforebay.a
LIB_OBJECTS := $(filter-out $(BUILD)/obj/cli/main.o,$(OBJECTS))

# Without its main() there is only the library.
program: $(if $(wildcard cli/main.c),$(BUILD)/forebay,$(LIB))

$(BUILD)/forebay: $(BUILD)/obj/cli/main.o $(LIB)
	@echo "  LINK  $@"
	@$(LINK) -o $@ $< $(LIB) $(PC_LIBS)

# Made anew each time: an object whose source is gone must go too.
$(LIB): $(LIB_OBJECTS) $(BUILD)/sources
	@echo "  AR    $@"
	@rm -f $@
	@$(AR) rcs $@ $(LIB_OBJECTS)

$(OBJECTS): $(BUILD)/obj/%.o: %.c $(BUILD)/flags | $(BUILD)/includes.ok
	@echo "  CC    $<"
	@mkdir -p $(@D)
	@$(COMPILE) $(FORBID) -MMD -MP -c -o $@ $<

# Who may include what (DESIGN section 2): a wrong #include fails the build.
$(BUILD)/includes.ok: scripts/check-includes $(SOURCES) $(HEADERS)
	@mkdir -p $(@D)
	@scripts/check-includes $(SOURCES) $(HEADERS)
	@touch $@

# Written only when they change: then everything, or the library, is made anew.
FLAGS_NOW = $(COMPILE) $(LINK) $(PC_LIBS)
FORCE:
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $@ || \
		printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' >$@
$(BUILD)/sources: FORCE
	@mkdir -p $(@D)
	@echo '$(SOURCES)' | cmp -s - $@ || echo '$(SOURCES)' >$@

# ---- test programs ----

# tests/unit/test_X.c, tests/{mount,crash}/X.c: one file, one program.
# tests/store/contract*.c, tests/model/*.c, tests/differential/*.c,
# tests/blobd/*.c: one program each.
# tests/lib/*.c: linked into all of them.
UNIT_SOURCES := $(sort $(wildcard tests/unit/test_*.c))
# tests/crash/disk_fault.c: preloaded.
MOUNT_SOURCES := $(sort $(wildcard tests/mount/*.c tests/bench/*.c) \
	$(filter-out tests/crash/disk_fault.c,$(wildcard tests/crash/*.c)))
CONTRACT_SOURCES := $(sort $(wildcard tests/store/contract*.c))
MODEL_SOURCES := $(sort $(wildcard tests/model/*.c))
DIFFERENTIAL_SOURCES := $(sort $(wildcard tests/differential/*.c))
BLOBD_SOURCES := $(sort $(wildcard tests/blobd/*.c))
TESTLIB_SOURCES := $(sort $(wildcard tests/lib/*.c))
TEST_SOURCES := $(UNIT_SOURCES) $(MOUNT_SOURCES) $(CONTRACT_SOURCES) \
	$(MODEL_SOURCES) $(DIFFERENTIAL_SOURCES) $(BLOBD_SOURCES) \
	$(TESTLIB_SOURCES)

test_obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
TEST_OBJECTS := $(call test_obj,$(TEST_SOURCES))
TESTLIB_OBJECTS := $(call test_obj,$(TESTLIB_SOURCES))
UNIT_PROGRAMS := $(UNIT_SOURCES:%.c=$(BUILD)/%)
MOUNT_PROGRAMS := $(MOUNT_SOURCES:%.c=$(BUILD)/%)
TEST_PROGRAMS := $(UNIT_PROGRAMS) $(MOUNT_PROGRAMS) \
	$(if $(CONTRACT_SOURCES),$(BUILD)/tests/contract) \
	$(if $(MODEL_SOURCES),$(BUILD)/tests/model) \
	$(if $(DIFFERENTIAL_SOURCES),$(BUILD)/tests/differential) \
	$(if $(BLOBD_SOURCES),$(BUILD)/tests/blobd)

CHECK_LIBS = $(shell $(PC) --libs check)
MICROHTTPD_LIBS = $(shell $(PC) --libs libmicrohttpd)

tests: program $(TEST_PROGRAMS) $(BUILD)/tests/crash/disk_fault.so

$(BUILD)/tests/crash/disk_fault.so: tests/crash/disk_fault.c $(BUILD)/flags
	@echo "  SO    $@"
	@mkdir -p $(@D)
	@$(CC) $(CPPFLAGS_ALL) -std=gnu11 -O1 -shared -fPIC $(WARNINGS) -o $@ $< -ldl

$(TEST_OBJECTS): $(BUILD)/obj/%.o: %.c $(BUILD)/flags | $(BUILD)/includes.ok
	@echo "  CC    $<"
	@mkdir -p $(@D)
	@$(COMPILE) -MMD -MP -c -o $@ $<

$(UNIT_PROGRAMS) $(MOUNT_PROGRAMS): $(BUILD)/%: $(BUILD)/obj/%.o
$(BUILD)/tests/contract: $(call test_obj,$(CONTRACT_SOURCES))
$(BUILD)/tests/model: $(call test_obj,$(MODEL_SOURCES))
$(BUILD)/tests/differential: $(call test_obj,$(DIFFERENTIAL_SOURCES))
$(BUILD)/tests/blobd: $(call test_obj,$(BLOBD_SOURCES))
# Doors at which the model counts what the reconciler does.
MODEL_WRAPS := tier_rescue tier_bytes_lost tier_conflict tier_late \
	tier_fence_soon \
	tier_work_accept cache_conflict_add cache_owed_repoint cache_owed_join
$(BUILD)/tests/model: TEST_LIBS = $(CHECK_LIBS) $(MODEL_WRAPS:%=-Wl,--wrap=%)
$(BUILD)/tests/blobd: TEST_LIBS = $(MICROHTTPD_LIBS)
$(TEST_PROGRAMS): TEST_LIBS ?= $(CHECK_LIBS)
$(TEST_PROGRAMS): $(TESTLIB_OBJECTS) $(LIB)
	@echo "  LINK  $@"
	@mkdir -p $(@D)
	@$(LINK) -o $@ $(filter %.o,$^) $(LIB) $(TEST_LIBS) $(PC_LIBS)

# tests/fuzz/fuzz_X.c: one fuzzer each.
FUZZ_SOURCES := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_OBJECTS := $(call test_obj,$(FUZZ_SOURCES))
FUZZ_PROGRAMS := $(FUZZ_SOURCES:%.c=$(BUILD)/%)

fuzzers:
	@$(MAKE) --no-print-directory CC=clang BUILD=build/fuzz CFLAGS='-O1 -g' \
		SANITIZE=address,undefined,fuzzer-no-link fuzz-programs

fuzz-programs: $(FUZZ_PROGRAMS)

$(FUZZ_OBJECTS): $(BUILD)/obj/%.o: %.c $(BUILD)/flags | $(BUILD)/includes.ok
	@echo "  CC    $<"
	@mkdir -p $(@D)
	@$(COMPILE) -MMD -MP -c -o $@ $<

$(FUZZ_PROGRAMS): $(BUILD)/%: $(BUILD)/obj/%.o $(TESTLIB_OBJECTS) $(LIB)
	@echo "  LINK  $@"
	@mkdir -p $(@D)
	@$(LINK) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(LIB) $(PC_LIBS)

-include $(OBJECTS:.o=.d) $(TEST_OBJECTS:.o=.d) $(FUZZ_OBJECTS:.o=.d)

# ---- running things ----

test:
	@scripts/test

bench: program
	@if [ -x tests/bench/run ]; then tests/bench/run; \
	else echo "there is no tests/bench/run yet"; fi

soak: tests
	@if [ -x tests/soak/run ]; then tests/soak/run; \
	else echo "there is no tests/soak/run yet"; fi

# clang-tidy and the header check compile with the same flags.
lint:
	@CC='$(CC)' BUILD='$(BUILD)' \
	LINT_CFLAGS='$(subst ','\'',$(CPPFLAGS_ALL)) -std=gnu11 $(WARNINGS)' \
	scripts/lint

format:
	@clang-format -i $(SOURCES) $(HEADERS) \
		$(wildcard tests/*/*.c tests/*/*.h)

# ---- installing ----

MAN_PAGES := $(wildcard man/*.[1-8])
MANDIR = $(PREFIX)/share/man

install: program
	install -D -m 0755 $(BUILD)/forebay '$(DESTDIR)$(PREFIX)/bin/forebay'
	install -d '$(DESTDIR)$(PREFIX)/sbin' '$(DESTDIR)$(MOUNT_HELPER_DIR)'
	ln -sf '$(PREFIX)/bin/forebay' '$(DESTDIR)$(PREFIX)/sbin/mount.forebay'
	ln -sf '$(PREFIX)/bin/forebay' '$(DESTDIR)$(MOUNT_HELPER_DIR)/mount.forebay'
	for page in $(MAN_PAGES); do \
		install -D -m 0644 $$page \
		"$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}" || exit 1; \
	done

uninstall:
	rm -f '$(DESTDIR)$(PREFIX)/bin/forebay' \
		'$(DESTDIR)$(PREFIX)/sbin/mount.forebay' \
		'$(DESTDIR)$(MOUNT_HELPER_DIR)/mount.forebay'
	for page in $(MAN_PAGES); do \
		rm -f "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}"; \
	done

# What was downloaded stays.
clean:
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 \
		! -name deps ! -name azurite -exec rm -rf {} +
